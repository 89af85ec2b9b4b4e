"""Moments of activations and of targets in one pass: what closed-form probes and erasers are made of. No activation is kept.

    n = Σ w      x̄ = c + Σ w (x - c) / n      scatter = Σ w (x - x̄)(x - x̄)ᵀ = S_xx - n δ δᵀ,  δ = x̄ - c        and so for z

The sums about c are the device's: see `moment_sums.py`. All else is NumPy in float64, where moments of different rows merge
(Chan, Golub and LeVeque 1983):

    scatter = scatter_a + scatter_b + (x̄_a - x̄_b)(x̄_a - x̄_b)ᵀ n_a n_b / n

Only the product of one piece of rows rounds in float32. Measured on 2^17 rows whose means are ten times their spread:
covariances are right to 3e-8 of the variances. Sums that begin in float64 (`dtype`) round there, and then any cut of the rows
into blocks, devices or hosts gives the same to 1e-12.

Targets that are 1 for the own class and else 0 hold all that a discriminant asks for in one product of matrices: `cross` has
the means of classes, and the covariance within classes is what is left of the whole. A covariance of each class costs one each.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from interp_jax.activations.moment_sums import PIECE, SOUND, Rows, Sums, add, begin
from interp_jax.errors import InputError

Block = tuple[Rows, Rows | None, Rows | None]  # x, z, w


class Moments(NamedTuple):
    """In float64; sums of squares and products are about the means.

    Attributes:
      count: Σ w.
      mean, target_mean: x̄ and z̄.
      scatter, cross, target_scatter: of x with x, x with z, z with z.
    """

    count: Float[np.ndarray, "*S"]
    mean: Float[np.ndarray, "*S D"]
    target_mean: Float[np.ndarray, "*S T"]
    scatter: Float[np.ndarray, "*S D D"]
    cross: Float[np.ndarray, "*S D T"]
    target_scatter: Float[np.ndarray, "*S T T"]

    @property
    def covariance(self) -> Float[np.ndarray, "*S D D"]:
        """Σ_xx, divided by n."""
        return self.scatter / per(self.count, 2)

    @property
    def cross_covariance(self) -> Float[np.ndarray, "*S D T"]:
        """Σ_xz, divided by n."""
        return self.cross / per(self.count, 2)


def per(count: Float[np.ndarray, "*S"] | float, axes: int) -> Float[np.ndarray, "..."]:
    """What to divide by, with so many further axes; 1 where nothing was counted."""
    return np.where(count > 0, count, 1.0).reshape((*np.shape(count), *[1] * axes))


def finish(sums: Sums, name: str = "activations") -> Moments:
    """The moments of the rows that were added, moved to the host.

    Args:
      sums: of one device, or with a leading axis of devices, which then leads here too: see `merged`.
      name: of what was read, for errors.

    Raises:
      InputError: a row that is not finite, or has a negative weight; sums that overflowed.
    """
    sums = jax.device_get(sums)
    S = sums.high.astype(np.float64)
    S += sums.low
    d = sums.x_shift.shape[-1]
    if len(wrong := np.argwhere((sums.bad != SOUND) | ~np.isfinite(S).all((-2, -1)))):
        at = tuple(wrong[0].tolist())
        which = f"row {int(sums.bad[at])} of {name}" if sums.bad[at] != SOUND else f"a sum over rows of {name}"
        where = f" (leading axes {at})" if at else ""
        raise InputError(f"moments: {which}{where} is not finite, or its weight is negative")
    count = S[..., -1, -1]
    delta = S[..., :-1, -1] / per(count, 1)
    about = S[..., :-1, :-1]
    about -= count[..., None, None] * delta[..., :, None] * delta[..., None, :]
    shift = np.concatenate([sums.x_shift, sums.z_shift], -1, dtype=np.float64)
    mean = shift + delta
    scatter = (about[..., :d, :d] + about[..., :d, :d].swapaxes(-1, -2)) / 2
    return Moments(count, mean[..., :d], mean[..., d:], scatter, about[..., :d, d:], about[..., d:, d:])


def streamed(blocks: Iterable[Block], dtype: jax.typing.DTypeLike | None = None, name: str = "activations") -> Moments:
    """The moments of blocks (x, z, w), each read once; the first one sets the shift.

    Raises:
      InputError: there is no block; see `finish`.
    """
    sums, step = None, jax.jit(add, donate_argnums=0)
    for block in blocks:
        sums = jax.jit(begin, static_argnames="dtype")(*block, dtype=dtype) if sums is None else sums
        sums = step(sums, *block)
    if sums is None:
        raise InputError(f"moments: no block of {name} was read")
    return finish(sums, name)


def pair(a: Moments, b: Moments) -> Moments:
    """Of the rows of both."""
    n = np.asarray(a.count + b.count)
    share, by = b.count / per(n, 0), a.count * b.count / per(n, 0)
    x, z = b.mean - a.mean, b.target_mean - a.target_mean

    def about(own: np.ndarray, other: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return own + other + (by[..., None] * left)[..., :, None] * right[..., None, :]

    return Moments(
        n,
        a.mean + share[..., None] * x,
        a.target_mean + share[..., None] * z,
        about(a.scatter, b.scatter, x, x),
        about(a.cross, b.cross, x, z),
        about(a.target_scatter, b.target_scatter, z, z),
    )


def merge(parts: Sequence[Moments]) -> Moments:
    """Of all rows of the parts, which must be of different rows; pair by pair.

    Raises:
      InputError: there is no part, or they are of different widths.
    """
    if len({(one.mean.shape[-1], one.target_mean.shape[-1]) for one in parts}) != 1:
        raise InputError(
            f"moments to merge: widths and targets {[(p.mean.shape[-1], p.target_mean.shape[-1]) for p in parts]}"
        )
    while len(parts) > 1:
        parts = [reduce(pair, parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


def merged(moments: Moments, axis: int = 0) -> Moments:
    """Of all rows along a leading axis: of devices, of folds, of classes."""
    if not 0 <= axis < moments.count.ndim:
        raise InputError(f"moments have {moments.count.ndim} leading axes; axis {axis} was to be merged")
    return merge([Moments(*(x.take(i, axis) for x in moments)) for i in range(moments.count.shape[axis])])


def class_means(moments: Moments) -> Float[np.ndarray, "*S C D"]:
    """Means of classes, where targets are 1 for the own class and else 0; the mean of all where a class has no row."""
    offsets = moments.cross / per(moments.count[..., None] * moments.target_mean, 0)[..., None, :]
    return moments.mean[..., None, :] + offsets.swapaxes(-1, -2)


def within_scatter(moments: Moments) -> Float[np.ndarray, "*S D D"]:
    """Scatter about the means of the own classes: Σ_c Σ w (x - x̄_c)(x - x̄_c)ᵀ; targets as for `class_means`."""
    counts = per(moments.count[..., None] * moments.target_mean, 0)
    return moments.scatter - (moments.cross / counts[..., None, :]) @ moments.cross.swapaxes(-1, -2)


class Cost(NamedTuple):
    """What moments take.

    Attributes:
      device: bytes of the sums on each device.
      rows: bytes of a block's pieces there, besides the block itself.
      host: bytes of the moments on the host, and of the sums that they are made of.
      operations: of the products, for so many rows.
    """

    device: int
    rows: int
    host: int
    operations: float


def cost(width: int, n_targets: int = 0, sites: int = 1, n_rows: int = 0, itemsize: int = 4) -> Cost:
    """What moments of so many rows at so many sites of a width take by plan; `sites` counts classes and folds too."""
    size = width + n_targets + 1
    square = sites * size**2
    device = 2 * square * itemsize
    return Cost(
        device, 3 * PIECE * sites * size * itemsize + square * itemsize, device + 4 * square * 8, 2.0 * n_rows * square
    )
