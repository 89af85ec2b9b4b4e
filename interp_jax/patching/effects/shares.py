"""Intervals of shares: how far the mean effect over the mean whole effect would move with other pairs of the same kind.

    r = mean x / mean y          x a cell's effects, y the whole ones, of the same B pairs          d = x - r y

Both means move with the pairs, and mostly together. So pairs are drawn anew with both of their numbers, and what is asked is
which shares ρ the pairs could have:

    T(ρ) = mean(x - ρ y) / sd(x - ρ y)          the interval: all ρ with T(ρ) between the quantiles of T* = mean d* / sd d*

where d* is d of pairs drawn with replacement, in whose world r is the true share. The bounds of T are those of
`bootstrap_interval` for the mean of d: by default the wider of the bootstrap's and Student's, of which the latter gives
Fieller's interval. Where the whole effect itself is not clearly different from 0 it has no end. Fieller 1954, "Some problems in
interval estimation"; Hwang 1995, "Fieller's problems and resampling techniques".
"""

import numpy as np
from jaxtyping import Float

from interp_jax.errors import InputError
from interp_jax.patching.effects.intervals import MeanInterval, bootstrap_interval

ROUNDING = 64 * float(np.finfo(np.float32).eps)  # of an effect's size: what is not told from 0


def share_interval(
    effects: Float[np.ndarray, "C B"],
    whole: Float[np.ndarray, "... B"],
    seed: int = 0,
    level: float = 0.95,
    n_resamples: int = 2000,
    method: str = "wider",
) -> MeanInterval:
    """Shares of the whole effect, each with the interval that covers the true one with probability `level`.

    Args:
      effects: of each cell.
      whole: the whole effect, [B] of all cells, or [C B] of each.
      seed: of the draws.
      level: see above.
      n_resamples: samples that are drawn.
      method: of `bootstrap_interval`, for the bounds of T.

    Raises:
      InputError: a mean whole effect of 0; else see `bootstrap_interval`.
    """
    x = np.asarray(effects, np.float64)
    y = np.broadcast_to(np.asarray(whole, np.float64), x.shape)
    size = y.mean(-1)
    if not np.all(size):
        raise InputError("the mean whole effect is 0: there is nothing to take shares of")
    x, y, size = x * np.sign(size)[..., None], y * np.sign(size)[..., None], np.abs(size)
    share = x.mean(-1) / size
    d = x - share[..., None] * y
    d = np.where(np.abs(d).max(-1, keepdims=True) > ROUNDING * np.abs(x).max(-1, keepdims=True), d, 0.0)
    spread = d.std(-1)
    unit = np.where(spread > 0, spread, 1.0)
    below, above = bootstrap_interval((d / unit[..., None]).astype(np.float32), seed, level, n_resamples, method)[1:]
    together = np.mean(d * (y - size[..., None]), -1)
    low = reach(-np.asarray(below, np.float64), size, spread**2, together, y.var(-1))
    high = reach(np.asarray(above, np.float64), size, spread**2, -together, y.var(-1))
    return MeanInterval(share, share - low, share + high)


def reach(
    t: Float[np.ndarray, " C"],
    size: Float[np.ndarray, " C"],
    own: Float[np.ndarray, " C"],
    together: Float[np.ndarray, " C"],
    of_whole: Float[np.ndarray, " C"],
) -> Float[np.ndarray, " C"]:
    """How far ρ may move away from r on the side where |T| = t: the root e ≥ 0 of

    e² (size² - t² of_whole) - 2 t² together e - t² own = 0,

    with variances of d (`own`) and y, and their covariance, signed so that it lengthens the way; infinite where there is none.
    """
    ends = np.isfinite(t)
    t = np.where(ends, t, 0.0)
    a = size**2 - t**2 * of_whole
    root = np.sqrt(np.maximum(t**2 * together**2 + a * own, 0.0))
    return np.where(ends & (a > 0), t * (t * together + root) / np.where(a > 0, a, 1.0), np.inf)
