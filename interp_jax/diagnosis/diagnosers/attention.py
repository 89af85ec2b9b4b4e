"""Attention against the declared rule's influence, layers multiplied through ("rollout": Abnar & Zuidema 2020).

weight = last row of Π_l ½ (A_l + 1)        A_l the mean pattern of a layer's heads
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.profiles import distance, excess
from interp_jax.diagnosis.view import View

TIER, COST = 1, 1


def weights(view: View) -> Float[Array, " P"]:
    """See the module."""
    _, seen = view.record(["blocks.attn.pattern"])
    pattern = seen["blocks.attn.pattern"].mean(2)  # [L B Q K]
    identity = jnp.eye(pattern.shape[-1])
    row = identity[-1]
    for layer in reversed(range(len(pattern))):
        row = jnp.einsum("...q,bqk->bk" if row.ndim == 1 else "bq,bqk->bk", row, (pattern[layer] + identity) / 2)
    return row.mean(0)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """How far the two are apart."""
    return distance(weights(view), view, declared)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """What positions weigh beyond the rule."""
    return excess(weights(view), view, declared)
