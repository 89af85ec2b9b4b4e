"""Resample patching at layer 1, against the declared rule's influence (Chan et al. 2022).

weight_i = mean fall of the log-odds when position i before layer 1 is another example's, which has another label
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.profiles import distance, excess, others
from interp_jax.diagnosis.view import Swap, View

TIER, COST = 2, 40
DRAWS = 2


def weights(view: View, declared: Declared) -> Float[Array, " P"]:
    """See the module."""
    own = jax.nn.one_hot(declared.labels, view.labels)
    positions, clean = view.tokens.shape[1], view.logits()

    def fall(case: tuple[Array, Array]) -> Float[Array, ""]:
        there, position = case
        signed = own - own[there]
        where = (jnp.arange(positions) == position)[None, :, None]
        return (signed * (clean - view.swapped(None, [Swap("blocks.resid_pre", 1, there, where)]))).sum(-1).mean()

    there = others(view, declared, DRAWS)
    cases = (jnp.repeat(there, positions, axis=0), jnp.tile(jnp.arange(positions), DRAWS))
    return jnp.abs(jax.lax.map(fall, cases)).reshape(DRAWS, positions).mean(0)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """How far the two are apart."""
    return distance(weights(view, declared), view, declared)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """What positions weigh beyond the rule."""
    return excess(weights(view, declared), view, declared)
