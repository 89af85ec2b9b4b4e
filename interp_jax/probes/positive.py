"""Equations with a symmetric positive matrix, solved by products alone: H = L D Lᵀ, by halves, down to small blocks.

    H = [P  Qᵀ]     P = L₁ D₁ L₁ᵀ     Z = L₁⁻¹ Qᵀ     M = (D₁⁻¹ Z)ᵀ     R - M Z = L₂ D₂ L₂ᵀ          L = [L₁  0 ]
        [Q  R ]                                                                                       [M   L₂]

L has identities, D the blocks of at most `SMALL` columns on its diagonal; these are inverted by elimination, column block by
column block (Gauss and Jordan). No pivots are searched: of a positive matrix all blocks are positive. All but the small
inverses are products, n³/2 operations in all.

Why not LAPACK: a program for several CPU devices with such a call, of some hundred columns, never ends (measured: Cholesky, LU
and QR, jaxlib 0.10.2, two devices), and populations are such programs. And its threads are slow beside other processes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

BLOCK, SMALL = 32, 64


class Factor(NamedTuple):
    """H's: of a small one the inverse, else the factors of its halves, and what is across.

    Attributes:
      inverse: D⁻¹, of a small H.
      upper, lower: those of L₁ D₁ L₁ᵀ and of L₂ D₂ L₂ᵀ.
      across: M.
    """

    inverse: Array | None = None
    upper: Any = None
    lower: Any = None
    across: Array | None = None


@jax.jit
def solve(H: Float[Array, "n n"], g: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """H⁻¹ g of a symmetric positive H."""
    factor = factorised(H)
    return backward(factor, scaled(factor, forward(factor, g)))


def factorised(H: Float[Array, "n n"]) -> Factor:
    """L and D⁻¹."""
    n = len(H)
    if n <= SMALL:
        return Factor(small_inverse(H))
    half = -(-n // (2 * BLOCK)) * BLOCK
    upper = factorised(H[:half, :half])
    Z = forward(upper, H[half:, :half].T)
    across = scaled(upper, Z).T
    return Factor(None, upper, factorised(H[half:, half:] - product(across, Z)), across)


def forward(factor: Factor, g: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """L⁻¹ g."""
    if factor.across is None:
        return g
    half = factor.across.shape[1]
    above = forward(factor.upper, g[:half])
    return jnp.concatenate([above, forward(factor.lower, g[half:] - product(factor.across, above))])


def scaled(factor: Factor, g: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """D⁻¹ g."""
    if factor.across is None:
        return product(factor.inverse, g)
    half = factor.across.shape[1]
    return jnp.concatenate([scaled(factor.upper, g[:half]), scaled(factor.lower, g[half:])])


def backward(factor: Factor, g: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """L⁻ᵀ g."""
    if factor.across is None:
        return g
    half = factor.across.shape[1]
    below = backward(factor.lower, g[half:])
    return jnp.concatenate([backward(factor.upper, g[:half] - product(factor.across.T, below)), below])


def product(a: Array, b: Array) -> Array:
    """A b, as exact as may be."""
    return jnp.matmul(a, b, precision="highest")


@jax.jit
def small_inverse(H: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """H⁻¹ of a small H, filled up to whole blocks by an identity."""
    n = len(H)
    block = min(BLOCK, n)
    more = -n % block
    filled = jnp.pad(H, ((0, more), (0, more))) + jnp.diag((jnp.arange(n + more) >= n).astype(H.dtype))
    found = eliminated(jnp.concatenate([filled, jnp.eye(n + more, dtype=H.dtype)], axis=1), block)
    return found[:n, n + more : n + more + n]


def eliminated(A: Float[Array, "n k"], block: int) -> Float[Array, "n k"]:
    """A with the identity in its first n columns, by steps of so many, which divide n."""

    def step(j: Any, A: Array) -> Array:
        rows = lax.dynamic_slice_in_dim(A, j * block, block)
        columns = lax.dynamic_slice_in_dim(A, j * block, block, 1)
        own = lax.dynamic_slice_in_dim(rows, j * block, block, 1)
        if block == 1:
            reduced = rows / own
            A = A - columns * reduced
        else:
            inverse = eliminated(jnp.concatenate([own, jnp.eye(block, dtype=A.dtype)], axis=1), 1)[:, block:]
            reduced = product(inverse, rows)
            A = A - product(columns, reduced)
        return lax.dynamic_update_slice_in_dim(A, reduced, j * block, 0)

    return lax.fori_loop(0, len(A) // block, step, A)
