"""What covariances say of activations, at all sites at once, in float64 on the host, from moments alone.

    Mahalanobis    √((x - μ_c)ᵀ Σ_w⁻¹ (x - μ_c))                      by class; Σ_w is within classes (Mahalanobis 1936)
    principal      the eigenvectors of Σ of the largest eigenvalues   (Pearson 1901)

Targets of classes are 1 for the own class and else 0. Σ_w may be shrunk as in `erasure/linear.py`. `Moments` has leading axes,
and so have results: sites, positions, folds. Probes from moments are those of `ridge.py`, `lda.py` and `mass_mean.py`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp_jax.activations.moments import Moments, class_means, within_scatter
from interp_jax.errors import InputError
from interp_jax.probes.erasure.linear import Shrinkage, shrunk, spectrum


class Principal(NamedTuple):
    """Components, the largest first: directions as rows, the variance along each, and its share of the whole."""

    directions: Float[np.ndarray, "*S K D"]
    variances: Float[np.ndarray, "*S K"]
    shares: Float[np.ndarray, "*S K"]


def mahalanobis(
    moments: Moments, x: Float[np.ndarray, "*S B D"], shrinkage: Shrinkage = 0.0
) -> Float[np.ndarray, "*S C B"]:
    """Distances of rows from classes; a single target that is always 1 makes one class of all.

    Raises:
      InputError: no class with examples.
    """
    there = (moments.target_mean > 0).any(-1)
    if len(wrong := np.argwhere(~there)):
        where = f" at {tuple(wrong[0].tolist())}" if there.ndim else ""
        raise InputError(f"Mahalanobis: no class has examples{where}")
    values, vectors = spectrum(shrunk(moments._replace(scatter=within_scatter(moments)), shrinkage))
    root = vectors / np.sqrt(values)[..., None, :]
    means = class_means(moments)
    return np.linalg.norm((x[..., None, :, :] - means[..., :, None, :]) @ root[..., None, :, :], axis=-1)


def principal(moments: Moments, n: int) -> Principal:
    """The first n components.

    Raises:
      InputError: there are not so many.
    """
    if not 1 <= n <= moments.mean.shape[-1]:
        raise InputError(f"principal: {n} components of {moments.mean.shape[-1]} dimensions")
    values, vectors = np.linalg.eigh(moments.covariance)
    whole = np.maximum(np.trace(moments.covariance, axis1=-2, axis2=-1), np.finfo(float).tiny)[..., None]
    variances = values[..., ::-1][..., :n]
    return Principal(vectors[..., ::-1][..., :n].swapaxes(-1, -2), variances, variances / whole)
