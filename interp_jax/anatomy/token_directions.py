"""What a circuit over tokens does, direction by direction: its singular values, and the tokens at the end of each vector.

    M = Σ_k s_k u_k v_kᵀ        M [V V]: an OV circuit (token looked at, token made likely) or a QK circuit (query, key)

Where u_k is large, so is what M does along v_k: tokens at the end of u_k are those that are looked at (that look), tokens at
the same end of v_k those that are made likely (that are looked at). The other ends go together too. A pair (u_k, v_k) has no
sign of its own: here the largest number of u_k is above 0. Directions of equal singular values may be turned among each other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.anatomy.factored import Factored, svd


class Directions(NamedTuple):
    """The R strongest directions of a circuit and the T tokens at their ends, the largest first.

    Attributes:
      values: all singular values, falling.
      rows, columns: tokens at the ends of u and of v.
      row_weights, column_weights: the numbers of u and v there; u and v are of length 1.
    """

    values: Float[Array, "*N K"]
    rows: Int[Array, "*N R T"]
    row_weights: Float[Array, "*N R T"]
    columns: Int[Array, "*N R T"]
    column_weights: Float[Array, "*N R T"]


def strongest_directions(circuit: Factored, n_directions: int, n_tokens: int) -> Directions:
    """The strongest directions of circuits [*N V V]; fewer where there are not so many, or not so many tokens."""
    U, S, Vh = svd(circuit)
    u, v = U[..., :n_directions].mT, Vh[..., :n_directions, :]
    largest = jnp.take_along_axis(u, jnp.abs(u).argmax(-1, keepdims=True), -1)
    sign = jnp.where(largest < 0, -1, 1).astype(u.dtype)
    row_weights, rows = jax.lax.top_k(u * sign, min(n_tokens, u.shape[-1]))
    column_weights, columns = jax.lax.top_k(v * sign, min(n_tokens, v.shape[-1]))
    return Directions(S, rows, row_weights, columns, column_weights)
