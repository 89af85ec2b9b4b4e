"""Local patching: by how much each position's replacement before layer 1 lowers the odds, against the rule's influence there.

    effect_ni = root of the mean over other examples m of max(0, odds_n - odds_n(position i before layer 1 is that of m))

See `local_influence.py`. What a position holds before layer 1 is more than its token, as layer 0 has already moved things: the
effect is no replaced token's, but what the model makes of one. The root keeps few large falls from deciding alone.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.gradients import STREAM
from interp_jax.diagnosis.local_influence import by_position, excess
from interp_jax.diagnosis.odds import strongest
from interp_jax.diagnosis.view import Swap, View

TIER, COST = 2, 60
DRAWS = 4


def effects(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, "N P"]:
    """See the module."""
    labels, n_positions = jnp.asarray(declared.labels), view.tokens.shape[1]
    clean = strongest(view.logits(), labels)

    def falls(case: tuple[Array, Array]) -> Float[Array, " N"]:
        there, position = case
        where = (jnp.arange(n_positions) == position)[None, :, None]
        return jnp.maximum(clean - strongest(view.swapped(None, [Swap(STREAM, 1, there, where)]), labels), 0.0)

    there = jax.random.randint(key, (DRAWS, view.n), 0, view.n)
    cases = (jnp.repeat(there, n_positions, axis=0), jnp.tile(jnp.arange(n_positions), DRAWS))
    return jnp.sqrt(jax.lax.map(falls, cases).reshape(DRAWS, n_positions, -1).mean(0).T)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    return excess(effects(view, declared, key), view, declared)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """What positions do where the rule says that they do nothing."""
    return by_position(effects(view, declared, key), declared)
