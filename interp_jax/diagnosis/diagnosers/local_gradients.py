"""Local gradients: how much each token's replacement would lower the odds, to first order, against the rule's influence.

effect_ni = mean over other examples m of max(0, -∂ odds_n / ∂x_ni · (x_mi - x_ni))        x the stream before layer 0

See `local_influence.py`. Gradients are taken at examples and nothing else is run: tier 1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.local_influence import by_position, excess
from interp_jax.diagnosis.odds import strongest
from interp_jax.diagnosis.view import View

TIER, COST = 1, 4
DRAWS = 16


def effects(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, "N P"]:
    """See the module."""
    labels = jnp.asarray(declared.labels)
    stream, gradient = view.input_gradient(lambda logits: strongest(logits, labels))

    def falls(key: Key[Array, ""]) -> Float[Array, "N P"]:
        there = jax.random.randint(key, (view.n,), 0, view.n)
        return jnp.maximum(-(gradient * (stream[there] - stream)).sum(-1), 0.0)

    return jax.lax.map(falls, jax.random.split(key, DRAWS)).mean(0)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    return excess(effects(view, declared, key), view, declared)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """What positions would do where the rule says that they do nothing."""
    return by_position(effects(view, declared, key), declared)
