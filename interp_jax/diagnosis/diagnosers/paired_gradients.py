"""Integrated gradients between two examples, from their ends alone, against the declared rule's influence.

    weight_i = mean |½ (∂ log-odds / ∂x_i at x + the same at x') · (x_i - x'_i)|        x' an example with another label

the trapezoidal rule (Sundararajan et al. 2017 with two points): both ends are examples, so tier 1 allows it, where what lies
between them is none. Log-odds: the logit of the one label less that of the other.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.profiles import distance, excess, others
from interp_jax.diagnosis.view import View

TIER, COST = 1, 6


def along(view: View, declared: Declared) -> Float[Array, "N P"]:
    """Each example's estimate at each position; exact where the log-odds are quadratic between the two."""
    there = others(view, declared, 1)[0]
    own = jax.nn.one_hot(declared.labels, view.labels)
    log_odds = lambda logits: ((own - own[there]) * logits).sum(-1)
    (x, here), (base, beyond) = view.input_gradient(log_odds), view.input_gradient(log_odds, there)
    return ((here + beyond) / 2 * (x - base)).sum(-1)


def weights(view: View, declared: Declared) -> Float[Array, " P"]:
    """See the module."""
    return jnp.abs(along(view, declared)).mean(0)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """How far the two are apart."""
    return distance(weights(view, declared), view, declared)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """What positions weigh beyond the rule."""
    return excess(weights(view, declared), view, declared)
