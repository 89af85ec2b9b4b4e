"""Erasers after which no linear predictor of z from x beats the constant, made of moments; and the random ones beside them.

A predictor that is linear in r(x) beats the constant for no convex loss exactly where the cross-covariance of r(x) and z is 0
(Belrose et al. 2023, "LEACE"), that is, where R W takes out all columns of Σ_xz.

    least change   R = S U,  W = Uᵀ S⁻¹       S = Σ^(-1/2), U an orthonormal basis of S Σ_xz: of all that do so the one with the
                                              least mean ‖r(x) - x‖² (ibid.): LEACE, an oblique projection
    orthogonal     R = V,  W = Vᵀ             V an orthonormal basis of Σ_xz: a larger change
    projection     likewise, V a basis of any directions; those of a probe's weights do not take Σ_xz out
    random         as the first or the second, with U or V drawn, of equal rank

Σ may be shrunk, (1 - α) Σ + α tr(Σ)/D I, by a given α or by that of Chen et al. 2010 ("oracle approximating"), which takes
moments alone. Variances below `LEAST` times the largest count as so large. However Σ is changed, Σ_xz is taken out whole: only
the change is not the least any more.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from interp_jax.activations.moments import Moments
from interp_jax.errors import InputError
from interp_jax.probes.erasure.eraser import Eraser, ranks

LEAST = 1e-9  # times the largest variance
LEAST_TARGET = 1e-6  # of the spectrum of correlations of targets: below it, they depend on each other
LEAST_CORRELATION = 1e-9  # canonical: below it nothing is there to be erased
Shrinkage = float | int | str


def least_change(moments: Moments, shrinkage: Shrinkage = 0.0) -> Eraser:
    """LEACE: see above; one for each of the leading axes.

    Raises:
      InputError: a shrinkage that is none; no rows; activations that do not vary.
    """
    check(moments)
    values, vectors = spectrum(shrunk(moments, shrinkage))
    roots = np.sqrt(values)[..., None, :]
    S, back = ((vectors * r) @ vectors.swapaxes(-1, -2) for r in (1 / roots, roots))
    U = column_space(S @ standardised(moments))
    return Eraser(moments.mean, S @ U, U.swapaxes(-1, -2) @ back)


def orthogonal(moments: Moments) -> Eraser:
    """The orthogonal projection that does so.

    Raises:
      InputError: see `least_change`.
    """
    check(moments)
    size = np.sqrt(spectrum(moments.covariance)[0].max(-1))[..., None, None]
    V = column_space(standardised(moments) / size)
    return Eraser(moments.mean, V, V.swapaxes(-1, -2).copy())


def projection(directions: Float[np.ndarray, "*S K D"], centre: Float[np.ndarray, "*S D"] | None = None) -> Eraser:
    """Takes the span of directions out, orthogonally; what stays there is the centre's, or 0.

    Raises:
      InputError: a direction that is not finite, or all of them 0.
    """
    directions = np.asarray(directions, np.float64)
    if not np.isfinite(directions).all() or not directions.any():
        raise InputError("projection: directions must be finite, and not all 0")
    lengths = np.linalg.norm(directions, axis=-1, keepdims=True)
    V = column_space((directions / np.where(lengths > 0, lengths, 1)).swapaxes(-1, -2))
    centre = np.zeros(directions.shape[:-2] + directions.shape[-1:]) if centre is None else np.asarray(centre)
    return Eraser(centre, V, V.swapaxes(-1, -2).copy())


def random_like(
    eraser: Eraser, seed: int | Sequence[int], n: int = 1, covariance: Float[np.ndarray, "*S D D"] | None = None
) -> Eraser:
    """As many random directions as an eraser takes out, with its centre; n draws along a first axis.

    Args:
      eraser: what they are a control of.
      seed: of the draws; several numbers are one seed, as NumPy takes them.
      n: how many.
      covariance: Σ. With it, directions are random after whitening and taken out obliquely, as the least change does it;
        without, they are random in space and taken out orthogonally: little goes with them where few hold most of the variance.
    """
    shape = np.shape(eraser.read)
    drawn = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, *shape)))[0]
    drawn = drawn * (np.arange(shape[-1]) < ranks(eraser)[..., None])[..., None, :]
    centre = np.broadcast_to(np.asarray(eraser.centre), (n, *np.shape(eraser.centre)))
    if covariance is None:
        return Eraser(centre, drawn, drawn.swapaxes(-1, -2).copy())
    values, vectors = spectrum(covariance)
    roots = np.sqrt(values)[..., None, :]
    S, back = ((vectors * r) @ vectors.swapaxes(-1, -2) for r in (1 / roots, roots))
    return Eraser(centre, S @ drawn, drawn.swapaxes(-1, -2) @ back)


# --------------------------------------------------------------------------------------------------- of moments


def shrunk(moments: Moments, shrinkage: Shrinkage) -> Float[np.ndarray, "*S D D"]:
    """(1 - α) Σ + α tr(Σ)/D I.

    Raises:
      InputError: α is not in 0 … 1 and not "oas".
    """
    covariance = moments.covariance
    alpha = np.asarray(approximating_oracle(moments) if shrinkage == "oas" else shrinkage)
    if alpha.dtype.kind not in "fi" or not ((alpha >= 0) & (alpha <= 1)).all():
        raise InputError(f'shrinkage = {shrinkage!r}: a number from 0 to 1, or "oas"')
    d = covariance.shape[-1]
    size = np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / d
    alpha = alpha[..., None, None]
    return (1 - alpha) * covariance + alpha * size * np.eye(d)


def approximating_oracle(moments: Moments) -> Float[np.ndarray, "*S"]:
    """Chen et al. 2010: α = min(1, ((1 - 2/D) tr Σ² + tr² Σ) / ((n + 1 - 2/D) (tr Σ² - tr² Σ / D)))."""
    covariance = moments.covariance
    d = covariance.shape[-1]
    squares, square = (covariance**2).sum((-2, -1)), np.trace(covariance, axis1=-2, axis2=-1) ** 2
    spread = (moments.count + 1 - 2 / d) * (squares - square / d)
    alpha = np.divide((1 - 2 / d) * squares + square, spread, out=np.ones(np.shape(spread)), where=spread > 0)
    return np.asarray(np.minimum(alpha, 1.0))


def spectrum(matrix: Float[np.ndarray, "*S D D"]) -> tuple[Float[np.ndarray, "*S D"], Float[np.ndarray, "*S D D"]]:
    """Eigenvalues, no smaller than `LEAST` times the largest, and vectors of a positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values, LEAST * values[..., -1:]), vectors


def standardised(moments: Moments) -> Float[np.ndarray, "*S D T"]:
    """Σ_xz A with A Aᵀ = Σ_zz⁻¹, but for directions in which targets do not vary: the last class has none of its own."""
    covariance = moments.target_scatter / moments.count[..., None, None]
    variances = np.diagonal(covariance, axis1=-2, axis2=-1)
    size = np.sqrt(np.where(variances > 0, variances, 1.0))
    values, vectors = np.linalg.eigh(covariance / (size[..., :, None] * size[..., None, :]))
    varies = values > LEAST_TARGET
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, values, 1.0)), 0.0)
    return moments.cross_covariance @ (vectors * scale[..., None, :] / size[..., :, None])


def column_space(matrix: Float[np.ndarray, "*S D T"]) -> Float[np.ndarray, "*S D K"]:
    """An orthonormal basis of the columns, of which those of no size are 0; K is the least of D and T."""
    U, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    return U * (sizes > LEAST_CORRELATION)[..., None, :]


def check(moments: Moments) -> None:
    """Raise `InputError` where nothing can be erased."""
    empty = ~(moments.count > 0) | ~(np.trace(moments.scatter, axis1=-2, axis2=-1) > 0)
    if len(wrong := np.argwhere(empty)):
        where = f" at {tuple(wrong[0].tolist())}" if moments.count.ndim else ""
        raise InputError(f"erasure: the activations{where} do not vary, or there is none; is the site alive?")
    if moments.cross.shape[-1] == 0:
        raise InputError("erasure: the moments have no targets; give z with the rows")
