"""Claims that one score lies above another, each with the p of a test that is valid for probes fitted by folds.

    above labels in another order, or random labels of tokens     the rank among all orders or draws: `probes/permutation.py`
    above another place or another model                          document by document, fold by fold: `probes/paired.py`
    erasing costs more than erasing at random                     whether another random subspace would: `probes/reliance.py`

A 95% interval over documents describes a difference; that it lies above 0 is no test at 5% here, for by folds documents are not
independent of each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from interp_jax.experiments.probing.tallies import Score, by_group
from interp_jax.probes.paired import paired_p
from interp_jax.probes.permutation import rank_p_at_best

LEVEL = 0.05


class Claim(NamedTuple):
    """By how much, and the p that it is by chance, of each cell."""

    above: Score
    p: float | Float[np.ndarray, "*cells"]


def survives(claim: Claim | None) -> bool:
    """Whether p is at most 5%."""
    return claim is not None and claim.p <= LEVEL


def one_survives(claims: Sequence[Claim | None]) -> Bool[np.ndarray, "*cells"]:
    """Whether one of several looks at one question does: the smallest p, times how many there are (Bonferroni)."""
    looks = [claim.p for claim in claims if claim is not None]
    return np.asarray(np.min(looks, axis=0) * len(looks) <= LEVEL if looks else False)


def above_orders(true: Float[np.ndarray, " S"], orders: Float[np.ndarray, "N S"]) -> float:
    """P of the best of S places, beside that of as many draws."""
    return float(rank_p_at_best(true, orders))


def above_another(
    hits: Num[np.ndarray, "N G C"],
    others: Num[np.ndarray, "N G C"],
    totals: Num[np.ndarray, "G C"],
    fold: Int[np.ndarray, "N G"],
) -> float:
    """P of one reader beside another, of the same tokens and folds.

    Args:
      hits: tokens that the first called right, by draw, group and class.
      others: those of the second.
      totals: tokens that there are.
      fold: of each group; -1 of those without tokens.
    """
    there = (fold >= 0).all(0)
    differences = np.zeros(fold.shape)
    for n, of in enumerate(fold):
        for f in np.unique(of[there]):
            own = of == f
            one, other = by_group(np.stack([hits[n, own], others[n, own]]), totals[own])
            differences[n, own] = one - other
    return float(paired_p(differences[:, there], fold[:, there]))
