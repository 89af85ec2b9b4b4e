"""Integrated gradients of layer 1: from another example's stream there to the model's own, against the rule's influence.

weight_i = mean |∫_0^1 ∂ log-odds / ∂s_i ds|        s_i how much of position i before layer 1 is the other example's
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.diagnosers.integrated_gradients import POINTS, SHARES
from interp_jax.diagnosis.profiles import distance, excess, others
from interp_jax.diagnosis.view import Swap, View

TIER, COST = 2, 32


def along(view: View, declared: Declared) -> Float[Array, "N P"]:
    """Each example's integral at each position; they sum to minus the change of its log-odds."""
    there = others(view, declared, 1)[0]
    own = jax.nn.one_hot(declared.labels, view.labels)
    signed = own - own[there]

    def told(share: Float[Array, "N P"]) -> Float[Array, ""]:
        swap = Swap("blocks.resid_pre", 1, there, share[:, :, None])
        return (signed * view.swapped(None, [swap])).sum()

    at = lambda point: jax.grad(told)(jnp.full(view.tokens.shape, (1 + point) / 2))
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
