"""Erasers that are told the label of each example: means of classes, and all that a quadratic predictor could read.

    means       r(x, z) = x - (z - z̄) B                B = Σ_zz⁺ Σ_zx; of classes: x - x̄_y + x̄
    transport   r(x, y) = x̄ + A_y (x - x̄_y)            A_y = Σ_y^(-1/2) (Σ_y^(1/2) Σ̄ Σ_y^(1/2))^(1/2) Σ_y^(-1/2)

After "means" all classes have the same mean, and no linear predictor of z beats the constant; of all maps that may see z it
moves x the least (Belrose et al. 2023, "oracle"). After "transport" (QLEACE) they have the same covariance Σ̄ too, so that no
quadratic one does. A_y is the optimal transport of normal classes, and Σ̄ their barycentre, to which they have the least way:

    Σ̄ = Σ̄^(-1/2) (Σ_y π_y (Σ̄^(1/2) Σ_y Σ̄^(1/2))^(1/2))² Σ̄^(-1/2)          a fixed point, iterated (Álvarez-Esteban et al. 2016)

They are no maps of x alone, and can themselves carry what they are told: a predictor that is not of that kind may read off r(x)
how it was moved. Use them to ask what a model does without z, not to hide z.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax.activations.moments import Moments, merged
from interp_jax.errors import InputError
from interp_jax.probes.erasure.linear import spectrum
from interp_jax.taps import Edit

TOLERANCE = 1e-12  # of a step of the barycentre, relative to its size
MOST_STEPS = 500


class Means(NamedTuple):
    """See the module; leading axes are layers, positions."""

    centre: Float[Array | np.ndarray, "*S T"]
    effects: Float[Array | np.ndarray, "*S T D"]


class Transport(NamedTuple):
    """See the module.

    Attributes:
      mean: x̄.
      centres: x̄_y of classes.
      maps: A_y, symmetric.
      left: the last step of the barycentre, relative to its size.
      steps: how many were taken.
      converged: whether what is left is at most `TOLERANCE`.
    """

    mean: Float[np.ndarray, " D"]
    centres: Float[np.ndarray, "C D"]
    maps: Float[np.ndarray, "C D D"]
    left: float
    steps: int
    converged: bool


def means(moments: Moments) -> Means:
    """The map of moments with targets, which are 1 for the own class and else 0, or any numbers."""
    return Means(
        moments.target_mean,
        np.linalg.pinv(moments.target_scatter, rcond=1e-9, hermitian=True) @ moments.cross.swapaxes(-1, -2),
    )


def without_means(
    by: Means, x: Float[Array | np.ndarray, "... D"], z: Float[Array | np.ndarray, "... T"]
) -> Float[Array | np.ndarray, "... D"]:
    """r(x, z)."""
    return x - (z - by.centre) @ by.effects


def means_edit(by: Means, z: Float[Array | np.ndarray, "... T"], layer: Any = None) -> Edit:
    """The edit for examples, or for examples and positions, with these targets; see `eraser.edit_of`."""
    moved = -jnp.matmul(jnp.asarray(z) - by.centre, jnp.asarray(by.effects), precision="highest")
    return Edit("add", moved.astype(jnp.result_type(float)), None, layer)


def transport(classes: Moments, tolerance: float = TOLERANCE, most_steps: int = MOST_STEPS) -> Transport:
    """The maps of moments with one leading axis, of classes.

    Raises:
      InputError: a class without rows, or whose rows do not vary; other leading axes.
    """
    if classes.count.ndim != 1:
        raise InputError(f"transport takes moments with one leading axis, of classes; got {classes.count.ndim}")
    covariances = classes.covariance
    if len(empty := np.flatnonzero(~(classes.count > 0) | ~(np.trace(covariances, axis1=1, axis2=2) > 0))):
        raise InputError(f"transport: class {empty[0]} has no rows, or they do not vary")
    roots, inverses = root(covariances)
    centre, left, steps = barycentre(roots @ roots, classes.count / classes.count.sum(), tolerance, most_steps)
    maps = inverses @ root(roots @ centre @ roots)[0] @ inverses
    return Transport(merged(classes).mean, classes.mean, maps, left, steps, left <= tolerance)


def barycentre(
    covariances: Float[np.ndarray, "C D D"], shares: Float[np.ndarray, " C"], tolerance: float, most_steps: int
) -> tuple[Float[np.ndarray, "D D"], float, int]:
    """Σ̄, the last relative step, and the number of steps."""
    centre, left, steps = np.einsum("c,cde->de", shares, covariances), np.inf, 0
    while steps < most_steps and left > tolerance:
        steps += 1
        own, inverse = root(centre)
        mean = np.einsum("c,cde->de", shares, root(own @ covariances @ own)[0])
        following = inverse @ mean @ mean @ inverse
        following = (following + following.T) / 2
        left = float(np.linalg.norm(following - centre) / np.linalg.norm(centre))
        centre = following
    return centre, left, steps


def root(matrix: Float[np.ndarray, "... D D"]) -> tuple[Float[np.ndarray, "... D D"], Float[np.ndarray, "... D D"]]:
    """The symmetric root of positive matrices, and its inverse; small eigenvalues as in `linear.spectrum`."""
    values, vectors = spectrum((matrix + matrix.swapaxes(-1, -2)) / 2)
    sizes = np.sqrt(values)[..., None, :]
    return (vectors * sizes) @ vectors.swapaxes(-1, -2), (vectors / sizes) @ vectors.swapaxes(-1, -2)


def transported(by: Transport, x: Float[np.ndarray, "B D"], y: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B D"]:
    """r(x, y)."""
    return by.mean + np.einsum("bd,bde->be", x - by.centres[y], by.maps[y])


def transport_edits(by: Transport, y: Int[Array | np.ndarray, "..."], layer: Any = None) -> tuple[Edit, ...]:
    """The edits, two of each class, for examples, or examples and positions, of these classes; -1 is left as it is."""
    d = by.mean.shape[0]
    array = lambda a: jnp.asarray(a, jnp.result_type(float))
    made: list[Edit] = []
    for c, (centre, to) in enumerate(zip(by.centres, by.maps, strict=True)):
        own: Bool[Array, "... 1"] = (jnp.asarray(y) == c)[..., None]
        value = (array(centre), array(np.eye(d) - to), array(np.eye(d)))
        made += [Edit("erase", value, own, layer), Edit("add", array(by.mean - centre), own, layer)]
    return tuple(made)
