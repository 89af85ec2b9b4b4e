"""How well a diagnosis says where the shortcut sits.

    AP = Σ_k precision(k) · [k-th is true] / n_true                      of positions, against those that only the rival reads
    NDCG = Σ_k gain_(k) / log₂(k + 1), over that of the best order       of components, against the referee's effects

Ties are averaged over: equal scores give the mean over their orders, for NDCG (McSherry & Najork 2008), and one step
of the curve, for AP. A random order is the baseline.
"""

import numpy as np
from jaxtyping import Bool, Float

from interp_jax.diagnosis.family import Family
from interp_jax.errors import InputError


def cue_positions(family: Family, own: str) -> Bool[np.ndarray, " P"]:
    """Positions that rule `own` reads and the other does not: none of a rival that reads the same."""
    other = {"f": "g", "g": "f"}[own]
    found = np.zeros(family.positions, bool)
    found[[p for p in family.rule(own).reads if p not in family.rule(other).reads]] = True
    return found


def average_precision(score: Float[np.ndarray, " P"], true: Bool[np.ndarray, " P"]) -> float:
    """AP of a ranking, higher first; equal scores are one step.

    Raises:
      InputError: nothing is true.
    """
    if not true.any():
        raise InputError("average precision has no meaning where no position is the cue's")
    total = 0.0
    for value in np.unique(score[true])[::-1]:
        above = score >= value
        total += true[above].mean() * (true & (score == value)).sum()
    return float(total / true.sum())


def ndcg(score: Float[np.ndarray, " C"], gain: Float[np.ndarray, " C"]) -> float:
    """NDCG of a ranking of components with gains ≥ 0; NaN where no gain is above 0."""
    discount = 1 / np.log2(np.arange(len(gain)) + 2)
    best = float(np.sort(gain)[::-1] @ discount)
    if not best > 0:
        return float("nan")
    total, before = 0.0, 0
    for value in np.unique(score)[::-1]:
        tied = score == value
        total += gain[tied].mean() * discount[before : before + tied.sum()].sum()
        before += int(tied.sum())
    return total / best


def chance(of: object, n: int, truth: np.ndarray, draws: int = 1_000, seed: int = 0) -> float:
    """Mean of a measure over random orders."""
    rng = np.random.default_rng(seed)
    return float(np.mean([of(rng.permutation(n).astype(float), truth) for _ in range(draws)]))
