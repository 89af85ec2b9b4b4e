"""How far estimated effects agree with exact ones, over the nodes of a grid.

    estimate ≈ slope · exact + intercept        least squares: a slope below 1 is an estimate that is too small
    R² = Pearson's correlation squared          Spearman's = that of ranks, ties at their mean rank

    precision(n) = |the n largest estimates ∩ the k largest effects| / n        recall(n) = … / k        sizes, not signs

Nodes with several axes are laid flat, examples with them: take means over examples first to ask about means.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from interp_jax.errors import InputError

Nodes = Float[Array | np.ndarray, "..."]


class Agreement(NamedTuple):
    """Agreement of N nodes' effects, in float64.

    Attributes:
      slope: of the estimate against the exact effect; NaN, with the next three, where either is the same at all nodes.
      intercept: the estimate at an effect of 0.
      r_squared: in [0, 1].
      spearman: in [-1, 1].
      precision: [N], of the 1, 2, … N largest estimates.
      recall: [N], likewise.
    """

    slope: float
    intercept: float
    r_squared: float
    spearman: float
    precision: Float[np.ndarray, " N"]
    recall: Float[np.ndarray, " N"]

    def __str__(self) -> str:
        return f"slope {self.slope:.3g}, R² {self.r_squared:.3f}, Spearman {self.spearman:.3f}"


def agreement(estimate: Nodes, exact: Nodes, k: int = 10) -> Agreement:
    """Agreement of two arrays of effects, with the `k` largest exact ones for the truth of precision and recall.

    Raises:
      InputError: different shapes, fewer than two nodes, k out of range, a value that is not finite.
    """
    if estimate.shape != exact.shape:
        raise InputError(f"estimates of nodes {estimate.shape} and exact effects of nodes {exact.shape}")
    y, x = (np.asarray(values, np.float64).ravel() for values in (estimate, exact))
    if x.size < 2 or not 1 <= k <= x.size:
        raise InputError(f"agreement over {x.size} nodes, k = {k}: needs 2 nodes, and k from 1 to their number")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(f"node {int(np.argmin(np.isfinite(x + y)))} has an effect that is not finite")
    correlation = _correlation(x, y)
    slope = correlation * y.std() / x.std() if x.std() else np.nan
    hits = np.cumsum(np.isin(largest(y), largest(x)[:k]))
    return Agreement(
        slope=float(slope),
        intercept=float(y.mean() - slope * x.mean()),
        r_squared=float(correlation**2),
        spearman=_correlation(_ranks(x), _ranks(y)),
        precision=hits / np.arange(1, x.size + 1),
        recall=hits / k,
    )


def largest(values: Float[Array | np.ndarray, " N"]) -> np.ndarray:
    """Indices of the largest first, by size; equals in their order."""
    return np.argsort(-np.abs(values), kind="stable")


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / size, -1.0, 1.0)) if size > 0 else np.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equals at the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[group]
