"""Intervals of means over examples, where examples come in groups that are not independent (the tokens of a text).

    m = Σ w v / Σ w        se² = G/(G-1) Σ_g (Σ_{n in g} w_n (v_n - m))² / (Σ w)²        without groups each example is one

    of shares          Wilson 1927 at n = m (1-m) / se², but never more than the examples: [c ± h] with
                       c = (m + q²/2n) / (1 + q²/n),   h = q √(m (1-m)/n + q²/4n²) / (1 + q²/n)
    of other means     m ± q se                        q: Student's quantile of G - 1, which for many groups is the normal one

What varies is which examples are seen, not which the probe was fitted on: the interval is for these fits, on new examples.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean, and where it lies; leading axes are those of the values."""

    mean: Float[np.ndarray, "*S"]
    low: Float[np.ndarray, "*S"]
    high: Float[np.ndarray, "*S"]


class Clustered(NamedTuple):
    """Means, their standard errors, the effective number of examples (Kish 1965), and the number of groups."""

    mean: Float[np.ndarray, "*S"]
    se: Float[np.ndarray, "*S"]
    n: Float[np.ndarray, "*S"]
    n_groups: Int[np.ndarray, "*S"]


def of_means(
    values: Float[np.ndarray, "*S B"],
    w: Float[np.ndarray, "*#S B"],
    groups: Int[np.ndarray, " B"] | None = None,
    level: float = LEVEL,
) -> Interval:
    """Of any values, or of differences of pairs of them; nan, or weight 0, leaves one out."""
    mean, se, _, n_groups = clustered(values, w, groups)
    q = scipy.stats.t.ppf((1 + level) / 2, np.maximum(n_groups - 1, 1))
    return Interval(mean, mean - q * se, mean + q * se)


def of_shares(
    values: Float[np.ndarray, "*S B"],
    w: Float[np.ndarray, "*#S B"],
    groups: Int[np.ndarray, " B"] | None = None,
    level: float = LEVEL,
) -> Interval:
    """Of values that are 0 or 1; never outside of 0 … 1, and of some width where all are the same."""
    mean, se, n, n_groups = clustered(values, w, groups)
    q = (
        scipy.stats.t.ppf((1 + level) / 2, n_groups - 1)
        if groups is not None
        else scipy.stats.norm.ppf((1 + level) / 2)
    )
    spread = mean * (1 - mean)
    most = np.minimum(n, n_groups) if groups is not None else n
    n = np.where((se > 0) & (spread > 0), np.minimum(spread / np.where(se > 0, se, 1.0) ** 2, n), most)
    return wilson(mean, n, q)


def wilson(share: np.ndarray, n: np.ndarray, q: np.ndarray | float) -> Interval:
    """Of a share of n independent examples; q is a quantile."""
    middle = (share + q**2 / (2 * n)) / (1 + q**2 / n)
    half = q * np.sqrt(share * (1 - share) / n + q**2 / (4 * n**2)) / (1 + q**2 / n)
    return Interval(share, middle - half, middle + half)


def clustered(
    values: Float[np.ndarray, "*S B"], w: Float[np.ndarray, "*#S B"], groups: Int[np.ndarray, " B"] | None
) -> Clustered:
    """See the module."""
    values = np.asarray(values, np.float64)
    w = np.where(np.isfinite(values), w, 0.0)
    values = np.where(w > 0, values, 0.0)
    total = np.maximum(w.sum(-1), np.finfo(float).tiny)
    mean = (w * values).sum(-1) / total
    parts = w * (values - mean[..., None])
    if groups is None:
        n_groups = (w > 0).sum(-1)
    else:
        own = np.unique(groups, return_inverse=True)[1]
        member = np.eye(own.max() + 1)[own]
        parts, n_groups = parts @ member, ((w > 0) @ member > 0).sum(-1)
    more = np.where(n_groups > 1, n_groups / np.maximum(n_groups - 1, 1), np.nan)
    se = np.sqrt(more * np.square(parts).sum(-1)) / total
    n = total**2 / np.maximum(np.square(w).sum(-1), np.finfo(float).tiny)
    return Clustered(*map(np.asarray, (mean, se, n, n_groups)))
