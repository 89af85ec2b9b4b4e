r"""From tallies to scores with intervals, over groups that are independent of each other.

    accuracy  A = mean over classes c of  r_c,   r_c = Σ_g h_gc / Σ_g n_gc       h: right, n: there; a constant has 1 / C
    of group g:  a_g = A + G · mean_c (h_gc - r_c n_gc) / Σ_g n_gc               mean over g is A
    interval:    A ± t(.975, G - 1) s(a) / √G

a_g is what A is to first order in the share of a group (linearisation of a ratio; Binder 1983), so tokens of a document count
as the dependent things that they are. A difference of scores has the differences of a_g: what is the same for both cancels.
What a probe would be on other training documents is not in the interval. Classes that nothing has are left out.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num


class Score(NamedTuple):
    """A score, its interval, and what it is made of: one value of each group, on the last axis."""

    mean: Float[np.ndarray, "*cells"]
    low: Float[np.ndarray, "*cells"]
    high: Float[np.ndarray, "*cells"]
    of_group: Float[np.ndarray, "*cells G"]


def balanced_accuracy(hits: Num[np.ndarray, "*cells G C"], totals: Num[np.ndarray, "*#cells G C"]) -> Score:
    """Accuracy, every class counting alike.

    Args:
      hits: examples of each class that were called right, by group.
      totals: examples of each class.
    """
    return score(by_group(hits, totals))


def by_group(
    hits: Num[np.ndarray, "*cells G C"], totals: Num[np.ndarray, "*#cells G C"]
) -> Float[np.ndarray, "*cells G"]:
    """The a_g; see the module."""
    totals = np.broadcast_to(np.asarray(totals, np.float64), hits.shape)
    there = totals.sum(-2)
    rate = hits.sum(-2) / np.maximum(there, 1)
    used = (there > 0) / np.maximum((there > 0).sum(-1, keepdims=True), 1)  # weight of each class
    share = (used / np.maximum(there, 1))[..., None, :]
    mean = (used * rate).sum(-1)
    n_groups = hits.shape[-2]
    return mean[..., None] + n_groups * (share * (hits - rate[..., None, :] * totals)).sum(-1)


def mean_of(sums: Float[np.ndarray, "*cells G"], totals: Num[np.ndarray, "*#cells G"]) -> Score:
    """A mean over examples that come in groups: one class, of which `sums` need not be whole numbers."""
    return balanced_accuracy(sums[..., None], totals[..., None])


def score(of_group: Float[np.ndarray, "*cells G"]) -> Score:
    """Mean and Student's 95% interval of independent values."""
    import scipy.special  # takes a moment

    n = of_group.shape[-1]
    mean = of_group.mean(-1)
    reach = float(scipy.special.stdtrit(n - 1, 0.975)) / np.sqrt(n) if n > 1 else np.inf
    half = reach * of_group.std(-1, ddof=min(1, n - 1))
    return Score(mean, mean - half, mean + half, of_group)


def difference(a: Score, b: Score) -> Score:
    """What the first has above the second, group by group."""
    return score(a.of_group - b.of_group)


def at(found: Score, *index: object) -> Score:
    """The score of some cells."""
    return Score(*(part[index] for part in found))
