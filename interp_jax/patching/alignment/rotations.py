"""Orthonormal columns R [D, K] as a smooth function of free numbers, made of matrix products alone.

    R(U) = -Q H(v_1) … H(v_K) I[:, :K],      H(v) = I - 2 v vᵀ / vᵀv

v_j is column j of the unit lower trapezoid of U: 0 above row j, 1 in row j, U below it. Q [D, D] is the start: U = 0 gives its
first K columns. A product of reflections is one formula (Bischof and Van Loan 1987; Joffrain et al. 2006); for v of length 1

    H(v_1) … H(v_K) = I - V T Vᵀ,      T = 2 (I + 2 · strict upper triangle of VᵀV)⁻¹

Why reflections. (1) R is orthonormal whatever U is. T_ij = -4 v_iᵀ H(v_{i+1}) … H(v_{j-1}) v_j for i < j, at most 4, so
nothing depends on how well conditioned U is. Polar iterations and CholeskyQR need a U that is not close to singular; Cayley
and the matrix exponential need a D×D inverse, or a number of squarings that grows with U. (2) Column j depends on v_1 … v_j
alone: the first k columns are what K = k would give, so k can be a traced mask. (3) Every subspace has a U whose columns below
the diagonal are no longer than 1 (Householder's choice of sign), and the map has no singularity anywhere: for k = 1 it is the
stereographic projection, which is nearly flat around U = 0. Hence a random Q and not a random U: searches get there in half
the steps. (4) The triangular inverse is log2 K batched products, so nothing calls LAPACK, which can hang under
`vmap` on a CPU and runs one member after another on a GPU. The cost is about 10 D K² operations.

Products are computed at precision "highest": in TensorFloat-32, R would be orthonormal to about 1e-3. Rounding in so many
products is taken out at the end by one step of CholeskyQR's correction, R - R (triu(E, 1) + diag(E) / 2), E = RᵀR - I.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from interp_jax import randomness


def random_free(key: Key[Array, ""], d_model: int, width: int, dtype: Any = jnp.float32) -> Float[Array, "D K"]:
    """Free numbers U whose columns are uniformly distributed but for their signs (Stewart 1980).

    With x Gaussian in rows j and below, x + sign(x_j) |x| e_j reflects e_j to -sign(x_j) x / |x|. Column j is a function of
    (key, j): the first k columns are those of width k.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(width))
    x = jnp.tril(jax.vmap(lambda key: jax.random.normal(key, (d_model,), dtype), out_axes=1)(keys))
    first, length = jnp.diagonal(x), jnp.linalg.norm(x, axis=0)
    return jnp.tril(x, -1) / (first + jnp.where(first < 0, -length, length))


def random_columns(key: Key[Array, ""], d_model: int, width: int, dtype: Any = jnp.float32) -> Float[Array, "D K"]:
    """Orthonormal columns, uniformly distributed but for their signs."""
    return columns(random_free(key, d_model, width, dtype))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def random_basis(seed: randomness.Scalar, d_model: int, width: int, dtype: Any = jnp.float32) -> Float[Array, "D K"]:
    """The columns of the control "random" of a member with this seed; its subspace is the first of them."""
    return random_columns(randomness.key(seed, "random"), d_model, width, dtype)


def columns(free: Float[Array, "D K"], start: Float[Array, "D D"] | None = None) -> Float[Array, "D K"]:
    """R(U): orthonormal columns, those of `start` (by default the identity) where U = 0.

    Entries of U on and above its diagonal are unused.
    """
    identity = jnp.eye(*free.shape, dtype=free.dtype)
    R = -reflect(jnp.tril(free, -1) + identity, identity)
    return polished(R if start is None else _product(start, R))


def polished(R: Float[Array, "D K"]) -> Float[Array, "D K"]:
    """Columns that are orthonormal but for rounding, with most of that rounding taken out.

    Along orthonormal matrices the correction stays zero, so no gradient is taken through it.
    """
    error = _product(R.T, R) - jnp.eye(R.shape[1], dtype=R.dtype)
    half = jnp.triu(error, 1) + jnp.diag(0.5 * jnp.diagonal(error))
    return R - jax.lax.stop_gradient(_product(R, half))


def reflect(vectors: Float[Array, "D K"], x: Float[Array, "D N"]) -> Float[Array, "D N"]:
    """H(v_1) … H(v_K) x, for vectors that are not zero."""
    v = vectors / jnp.linalg.norm(vectors, axis=0)
    strict = jnp.triu(_product(v.T, v), 1)
    T = 2.0 * inverse_of_unit_triangle(jnp.eye(v.shape[1], dtype=v.dtype) + 2.0 * strict)
    return x - _product(v, _product(T, _product(v.T, x)))


def inverse_of_unit_triangle(upper: Float[Array, "K K"]) -> Float[Array, "K K"]:
    """The inverse of an upper triangular matrix with ones on its diagonal, by doubling the blocks that are inverted.

    inverse of [[A, B], [0, C]] = [[A⁻¹, -A⁻¹ B C⁻¹], [0, C⁻¹]]; all blocks of one size at once.
    """
    K = upper.shape[0]
    size = 1 << max(K - 1, 0).bit_length()
    whole = jnp.eye(size, dtype=upper.dtype).at[:K, :K].set(upper)
    blocks = jnp.ones((size, 1, 1), upper.dtype)
    while len(blocks) > 1:
        n, s = len(blocks) // 2, blocks.shape[1]
        pair = np.arange(n)
        B = whole.reshape(n, 2, s, n, 2, s)[pair, 0, :, pair, 1, :]
        A, C = blocks[0::2], blocks[1::2]
        corner = -_product(_product(A, B), C)
        blocks = jnp.block([[A, corner], [jnp.zeros_like(B), C]])
    return blocks[0, :K, :K]


def principal_angles(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Angles [K] in radians between the spans of orthonormal columns a [D, K] and b [D, N], N >= K, largest first.

    Taken from their sines, the singular values of a - b bᵀ a, which resolve small angles as cosines do not. An angle says
    how far a direction of `a` is from the span of `b`.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sines = np.linalg.svd(a - b @ (b.T @ a), compute_uv=False)
    return np.arcsin(np.clip(sines, 0.0, 1.0))


def shared_dimensions(a: ArrayLike, b: ArrayLike) -> float:
    """Σ cos² of the principal angles between the spans of orthonormal columns a [D, K] and b [D, N]: 0 to min(K, N).

    Divided by N it is the share of b's span that a's holds, by K the reverse. A random span of K dimensions has K N / D on
    average, whatever b is.
    """
    return float(np.square(np.asarray(a, np.float64).T @ np.asarray(b, np.float64)).sum())


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
