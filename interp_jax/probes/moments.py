"""First two moments of activations and targets, in the program that fits: of weighted rows, and of folds that add up.

    n = Σ w     x̄ = Σ w x / n     scatter = Σ w (x - x̄)(x - x̄)ᵀ     cross = Σ w (x - x̄)(y - ȳ)ᵀ

Rows are first centred about one point for all folds, so the sums of a union of folds are sums of theirs, and what is taken off
to centre them is small. Only blocks of columns on and above the diagonal are multiplied.

A probe from moments takes anything with these fields, such as moments of more rows than are ever kept, streamed in float64
(`activations/moments.py`): `lda.from_moments(one_target(streamed, 0), lda.Hypers())`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BLOCK = 256


class Moments(NamedTuple):
    """See the module; leading axes are those of the sets of rows.

    Attributes:
      count: n.
      mean, target_mean: x̄ and ȳ.
      scatter: of x with x.
      cross: of x with each target.
    """

    count: Float[Array, "*S"]
    mean: Float[Array, "*S D"]
    target_mean: Float[Array, "*S T"]
    scatter: Float[Array, "*S D D"]
    cross: Float[Array, "*S D T"]


class Sums(NamedTuple):
    """Σ w of 1, x, y, x xᵀ, x yᵀ; of x and y about some point."""

    count: Float[Array, "*S"]
    x: Float[Array, "*S D"]
    y: Float[Array, "*S T"]
    xx: Float[Array, "*S D D"]
    xy: Float[Array, "*S D T"]


def gram(x: Float[Array, "B D"], w: Float[Array, " B"]) -> Float[Array, "D D"]:
    """Xᵀ diag(w) X, of blocks on and above the diagonal; those below are theirs."""
    d = x.shape[1]
    if d <= BLOCK:
        return jnp.matmul((x * w[:, None]).T, x, precision="highest")
    half = -(-d // (2 * BLOCK)) * BLOCK
    left, right = x[:, :half], x[:, half:]
    off = jnp.matmul((left * w[:, None]).T, right, precision="highest")
    return jnp.block([[gram(left, w), off], [off.T, gram(right, w)]])


def sums(x: Float[Array, "B D"], y: Float[Array, "B T"], w: Float[Array, " B"]) -> Sums:
    """Of weighted rows."""
    weighted = w[:, None] * y
    cross = jnp.matmul(x.T, weighted, precision="highest")
    return Sums(w.sum(), w @ x, weighted.sum(0), gram(x, w), cross)


def finish(total: Sums, x_point: Float[Array, " D"], y_point: Float[Array, " T"]) -> Moments:
    """The moments of rows that were summed about a point."""
    n = jnp.where(total.count > 0, total.count, 1.0)[..., None]
    x, y = total.x / n, total.y / n
    n = n[..., None]
    scatter = total.xx - n * x[..., :, None] * x[..., None, :]
    cross = total.xy - n * x[..., :, None] * y[..., None, :]
    return Moments(total.count, x_point + x, y_point + y, scatter, cross)


def moments(x: Float[Array, "B D"], y: Float[Array, "B *T"], w: Float[Array, " B"]) -> Moments:
    """Of weighted rows; a target without columns has one."""
    y = y.reshape(len(y), -1).astype(x.dtype)
    n = jnp.where(w.sum() > 0, w.sum(), 1.0)
    x_point, y_point = w @ x / n, w @ y / n
    return finish(sums(x - x_point, y - y_point, w), x_point, y_point)


def one_target(m: Any, which: int = 0) -> Any:
    """Of one of the targets, without their axis."""
    return m._replace(target_mean=m.target_mean[..., which], cross=m.cross[..., which])


def moments_like(x: Float[Array, "B D"], y: Float[Array, "B *T"], w: Float[Array, " B"]) -> Moments:
    """Of weighted rows, with an axis of targets where y has one."""
    found = moments(x, y, w)
    return found if y.ndim == 2 else one_target(found)


def moments_of_folds(
    x: Float[Array, "B D"],
    y: Float[Array, "B T"],
    w: Float[Array, " B"],
    rows: Int[Array, "F n"],
    include: Float[Array, "M F"],
) -> Moments:
    """Of M unions of F folds, each row multiplied once.

    Args:
      x: all rows.
      y: their targets.
      w: their weights.
      rows: of each fold; -1 fills up the shorter ones.
      include: 1 where a union has a fold.
    """
    n = jnp.where(w.sum() > 0, w.sum(), 1.0)
    x_point, y_point = w @ x / n, w @ y / n
    parts = [sums(x[r] - x_point, y[r] - y_point, jnp.where(r >= 0, w[r], 0.0)) for r in rows]
    stacked = Sums(*(jnp.stack(leaves) for leaves in zip(*parts, strict=True)))
    total = Sums(*(jnp.tensordot(include, leaf, 1, precision="highest") for leaf in stacked))
    return finish(total, x_point, y_point)
