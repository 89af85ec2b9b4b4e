"""Affine maps that make activations comparable before a dictionary reads them, and back.

    n(x) = (x - c) A                x = n(x) A⁻¹ + c                 rows x [D]

    method   "none"       A = I
             "length"     A = I / s, s such that rows are √D long on average (Conerly et al. 2024)
             "standard"   A = diag(1/σ)
             "whiten"     A = Σ^(-1/2), the symmetric root, of Σ shrunk towards its mean variance: (1-α) Σ + α tr(Σ)/D I
    centre   "none"       c = 0
             "mean"       c = the mean
             "median"     c = the geometric median, the point with the least sum of distances (Weiszfeld 1937)

A dictionary that takes its bias off what it reads and begins with a bias of 0 begins, after centring, as one that begins with a
bias of c does without (Bricken et al. 2023 begin at the geometric median): shifting what is read and said shifts only the bias.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from interp_jax.errors import InputError, nearest
from interp_jax.parts import part

METHODS = ("none", "length", "standard", "whiten")
CENTRES = ("none", "mean", "median")
LEAST = 1e-6  # times the largest variance: the least that is divided by
MEDIAN_STEPS = 100
Rows = Float[Array | np.ndarray, "... D"]


@part
class Normalise:
    """How activations are normalised.

    Attributes:
      method: one of `METHODS`.
      centre: one of `CENTRES`.
      shrinkage: α, of "whiten".
    """

    method: str = "length"
    centre: str = "none"
    shrinkage: float = 1e-3

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name, known in (("method", METHODS), ("centre", CENTRES)):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"normalise.{name}: unknown {value!r}; {nearest(value, known)}")
        if not 0 <= self.shrinkage <= 1:
            raise InputError(f"normalise.shrinkage: {self.shrinkage} is not in 0 … 1")


class Normaliser(NamedTuple):
    """A map and its inverse; both [D] where they act on each dimension alone, else [D D].

    Attributes:
      centre: c.
      forward: A.
      back: A⁻¹.
    """

    centre: Float[Array | np.ndarray, " D"]
    forward: Float[Array | np.ndarray, "..."]
    back: Float[Array | np.ndarray, "..."]


def fit(x: Float[Array | np.ndarray, "N D"], how: Normalise) -> Normaliser:
    """The map that suits a sample, computed in float64.

    Raises:
      InputError: the sample does not vary, or is not finite.
    """
    x = np.asarray(x, np.float64)
    if not np.isfinite(x).all():
        row, dimension = np.argwhere(~np.isfinite(x))[0]
        raise InputError(f"normalise: activation {row} of the sample is {x[row, dimension]} in dimension {dimension}")
    centre = {"none": lambda: np.zeros(x.shape[1]), "mean": lambda: x.mean(0), "median": lambda: median(x)}[
        how.centre
    ]()
    forward, back = MAPS[how.method](x - centre, how)
    return Normaliser(*(np.asarray(leaf, np.float32) for leaf in (centre, forward, back)))


def median(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """The geometric median."""
    m = x.mean(0)
    for _ in range(MEDIAN_STEPS):
        weight = 1 / np.maximum(np.linalg.norm(x - m, axis=1), 1e-12)
        m = weight @ x / weight.sum()
    return m


def _none(x: np.ndarray, how: Normalise) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(x.shape[1]), np.ones(x.shape[1])


def _length(x: np.ndarray, how: Normalise) -> tuple[np.ndarray, np.ndarray]:
    size = np.linalg.norm(x, axis=1).mean() / x.shape[1] ** 0.5
    _check_varies(size)
    return np.full(x.shape[1], 1 / size), np.full(x.shape[1], size)


def _standard(x: np.ndarray, how: Normalise) -> tuple[np.ndarray, np.ndarray]:
    variance = x.var(0)
    _check_varies(variance.max())
    size = np.sqrt(np.maximum(variance, LEAST * variance.max()))
    return 1 / size, size


def _whiten(x: np.ndarray, how: Normalise) -> tuple[np.ndarray, np.ndarray]:
    covariance = np.cov(x, rowvar=False, bias=True)
    mean_variance = np.trace(covariance) / len(covariance)
    _check_varies(mean_variance)
    shrunk = (1 - how.shrinkage) * covariance + how.shrinkage * mean_variance * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(shrunk)
    roots = np.sqrt(np.maximum(values, LEAST * values.max()))
    return (vectors / roots) @ vectors.T, (vectors * roots) @ vectors.T


def _check_varies(size: float) -> None:
    if not size > 0:
        raise InputError("normalise: the activations of the sample do not vary; is the site read where it is alive?")


MAPS = {"none": _none, "length": _length, "standard": _standard, "whiten": _whiten}


def normalised(x: Rows, by: Normaliser) -> Rows:
    """n(x)."""
    return times(x - by.centre, by.forward)


def restored(x: Rows, by: Normaliser) -> Rows:
    """The rows whose n(x) these are."""
    return times(x, by.back) + by.centre


def times(x: Rows, matrix: Float[Array | np.ndarray, "..."]) -> Rows:
    """Rows times a matrix, or its diagonal."""
    return x @ matrix if matrix.ndim == 2 else x * matrix


def side_by_side(maps: list[Normaliser]) -> Normaliser:
    """The map of several activations in one row, each by its own."""
    if len(maps) == 1:
        return maps[0]
    together = np.concatenate
    if any(np.ndim(by.forward) == 2 for by in maps):
        maps = [Normaliser(by.centre, _matrix(by.forward), _matrix(by.back)) for by in maps]
        together = lambda parts: scipy.linalg.block_diag(*parts).astype(np.float32)
    centre = np.concatenate([by.centre for by in maps])
    return Normaliser(centre, together([by.forward for by in maps]), together([by.back for by in maps]))


def stacked(maps: list[Normaliser]) -> Normaliser:
    """The maps of several places of one width, one leading axis more: `vmap` takes them."""
    return Normaliser(*(np.stack(leaves) for leaves in zip(*maps, strict=True)))


def _matrix(a: np.ndarray) -> np.ndarray:
    return a if np.ndim(a) == 2 else np.diag(a)


def on_device(by: Normaliser) -> Normaliser:
    """Its arrays on the device."""
    return Normaliser(*map(jax.numpy.asarray, by))
