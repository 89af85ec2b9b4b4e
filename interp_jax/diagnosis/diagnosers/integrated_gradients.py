"""Integrated gradients from one example to another, against the declared rule's influence (Sundararajan et al. 2017).

    weight_i = mean |∫_0^1 ∂ log-odds / ∂s_i at x' + s (x - x') ds|        x' the embeddings of an example with another label

The sum over i is the whole change of the log-odds (logit of the one label less that of the other). What lies between
two examples is no example: a skyline, of tier 3. `patched_gradients` is the same one layer on, where it is allowed.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.profiles import distance, excess, others
from interp_jax.diagnosis.view import View

TIER, COST = 3, 24
STEPS = 8
POINTS, SHARES = (np.array(half, np.float32) for half in np.polynomial.legendre.leggauss(STEPS))


def along(view: View, declared: Declared) -> Float[Array, "N P"]:
    """Each example's integral at each position; they sum to the change of its log-odds."""
    there = others(view, declared, 1)[0]
    x, base = view.embedded(view.tokens), view.embedded(view.tokens[there])
    own = jax.nn.one_hot(declared.labels, view.labels)
    signed = own - own[there]

    def at(point: Float[Array, ""]) -> Float[Array, "N P"]:
        told = lambda stream: (signed * view.logits_of_stream(stream)).sum()
        return (jax.grad(told)(base + (1 + point) / 2 * (x - base)) * (x - base)).sum(-1)

    found = jax.lax.map(at, jnp.asarray(POINTS))
    return (jnp.asarray(SHARES)[:, None, None] / 2 * found).sum(0)


def weights(view: View, declared: Declared) -> Float[Array, " P"]:
    """See the module."""
    return jnp.abs(along(view, declared)).mean(0)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """How far the two are apart."""
    return distance(weights(view, declared), view, declared)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """What positions weigh beyond the rule."""
    return excess(weights(view, declared), view, declared)
