"""Equations with a symmetric positive matrix, solved by products alone: Gauss-Jordan elimination, block of columns by block.

    for each block j:   R = A_jj⁻¹ A_j·     A ← A - A_·j R in all other rows, and R in its own;   A = [H, g] at first

No pivots are searched: of a positive matrix every A_jj stays positive. All but the small A_jj⁻¹ are products of matrices, 2 n³
operations in all.

Why not LAPACK: a program for several CPU devices with such a call, of some hundred columns, never ends (measured: Cholesky, LU
and QR, jaxlib 0.10.2, two devices), and populations are such programs.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

BLOCK = 32


def solve(H: Float[Array, "n n"], g: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """H⁻¹ g of a symmetric positive H."""
    n = len(H)
    block = min(BLOCK, n)
    more = -n % block
    filled = jnp.pad(H, ((0, more), (0, more))) + jnp.diag((jnp.arange(n + more) >= n).astype(H.dtype))
    return eliminated(jnp.concatenate([filled, jnp.pad(g, ((0, more), (0, 0)))], axis=1), block)[:n, n + more :]


def eliminated(A: Float[Array, "n k"], block: int) -> Float[Array, "n k"]:
    """A with the identity in its first n columns, by steps of so many, which divide n."""

    def step(j: Any, A: Array) -> Array:
        rows = lax.dynamic_slice_in_dim(A, j * block, block)
        columns = lax.dynamic_slice_in_dim(A, j * block, block, 1)
        own = lax.dynamic_slice_in_dim(rows, j * block, block, 1)
        if block == 1:
            reduced = rows / own
        else:
            inverse = eliminated(jnp.concatenate([own, jnp.eye(block, dtype=A.dtype)], axis=1), 1)[:, block:]
            reduced = jnp.matmul(inverse, rows, precision="highest")
        A = A - jnp.matmul(columns, reduced, precision="highest")
        return lax.dynamic_update_slice_in_dim(A, reduced, j * block, 0)

    return lax.fori_loop(0, len(A) // block, step, A)
