"""Matrices of low rank, kept as the two factors that they are made of: a head's [D D] and [V V] maps have rank E.

    M = left @ right            left [*N A K], right [*N K B], with K much smaller than A and B; *N are layers and heads

Products, traces, norms, singular values and eigenvalues come from the factors, so that M is never built: GPT-2 small's 144
circuits over its vocabulary would take 1.5 TB. The singular vectors are those of the small core between two QR
factorisations, left = Q₁R₁, rightᵀ = Q₂R₂, M = Q₁ (R₁R₂ᵀ) Q₂ᵀ; the eigenvalues of M other than 0 are those of right @ left.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

Matrix = Array | np.ndarray


@flax.struct.dataclass
class Factored:
    """left @ right, for matrices on the last two axes; the others are a batch.

    `f @ x`, `x @ f` and `f @ g` are factored again, with x an array [..., A B]; `f[layer, head]` picks from the batch.
    """

    left: Any
    right: Any
    __array_ufunc__ = None  # NumPy arrays leave `x @ f` to this class

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the matrices, with their batch."""
        batch = jnp.broadcast_shapes(self.left.shape[:-2], self.right.shape[:-2])
        return (*batch, self.left.shape[-2], self.right.shape[-1])

    @property
    def T(self) -> "Factored":
        """The transposes."""
        return Factored(self.right.mT, self.left.mT)

    def __matmul__(self, other: "Factored | Matrix") -> "Factored":
        if not isinstance(other, Factored):
            return Factored(self.left, multiply(self.right, other))
        middle = multiply(self.right, other.left)
        if middle.shape[-2] <= middle.shape[-1]:
            return Factored(self.left, multiply(middle, other.right))
        return Factored(multiply(self.left, middle), other.right)

    def __rmatmul__(self, other: Matrix) -> "Factored":
        return Factored(multiply(other, self.left), self.right)

    def __getitem__(self, index: Any) -> "Factored":
        return Factored(self.left[index], self.right[index])


class SVD(NamedTuple):
    """M = U diag(S) Vh, with the singular values in falling order; K of them, or fewer where M is smaller."""

    U: Float[Array, "*N A K"]
    S: Float[Array, "*N K"]
    Vh: Float[Array, "*N K B"]


def dense(matrix: Factored) -> Float[Array, "*N A B"]:
    """The matrices themselves."""
    return multiply(matrix.left, matrix.right)


def corner(matrix: Factored, n: int = 3) -> Float[Array, "*N n n"]:
    """The first `n` rows and columns."""
    return multiply(matrix.left[..., :n, :], matrix.right[..., :n])


def trace(matrix: Factored) -> Float[Array, "*N"]:
    """Σ_i M_ii = Σ left · rightᵀ, of square matrices."""
    return (matrix.left * matrix.right.mT).sum((-2, -1))


def norm(matrix: Factored) -> Float[Array, "*N"]:
    """The Frobenius norm, from triangular factors: squares of large numbers are not subtracted."""
    return jnp.linalg.norm(multiply(triangle(matrix.left), triangle(matrix.right.mT).mT), axis=(-2, -1))


def svd(matrix: Factored) -> SVD:
    """Singular values and vectors."""
    q_left, r_left = jnp.linalg.qr(matrix.left)
    q_right, r_right = jnp.linalg.qr(matrix.right.mT)
    u, s, vh = jnp.linalg.svd(multiply(r_left, r_right.mT), full_matrices=False)
    return SVD(multiply(q_left, u), s, multiply(vh, q_right.mT))


def eigenvalues(matrix: Factored) -> Complex[Array, "*N K"]:
    """K eigenvalues of square matrices, among them all that are not 0; on CPUs and GPUs only, as JAX has it."""
    return jnp.linalg.eigvals(multiply(matrix.right, matrix.left))


def positive_share(values: Complex[Array, "*N K"]) -> Float[Array, "*N"]:
    """Σ Re λ / Σ |λ|, in [-1, 1]: 1 if all eigenvalues are positive, -1 if all are negative, 0 if all are 0."""
    total = jnp.abs(values).sum(-1)
    return jnp.where(total > 0, values.real.sum(-1) / jnp.where(total > 0, total, 1.0), 0.0)


def triangle(matrix: Float[Array, "*N A K"]) -> Float[Array, "*N R K"]:
    """R of the QR factorisation: ‖R X‖ = ‖matrix X‖ for every X."""
    return jnp.linalg.qr(matrix, mode="r")


def multiply(a: Matrix, b: Matrix) -> Array:
    """The product at the highest precision that the device has."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
