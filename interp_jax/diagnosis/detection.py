"""How well scores tell who cheated: from all models of a family, each with f and with g declared.

    mirrored    every model twice, with either rule declared; with the other one its truth is the opposite
                a score that ignores the rule has each value once with either truth: AUROC ½ exactly
    natural     f declared, learned against cheated: open to whatever else differs between them; also among those alone that
                can be matched by their loss within a calliper (Rosenbaum & Rubin 1985)

    AUROC               P(score of a cheat > score of one that learned), ties half
    paired accuracy     share of pairs, by seed and declared rule, in which the cheat's score is higher, ties half
    reliance            Spearman's ρ, over mixed models, of score and P(g) - P(f) on D_X

Intervals are of a bootstrap: families, then within each its seeds, drawn with replacement; all that is of a seed stays
together. Of few units its percentiles lie too close together; they are taken farther out by as much as Student's t asks of
so many (Hesterberg 2015). Of six families, simulated in three ways, 86 to 96 of 100 such intervals of 95% hold the mean of all
families (79 to 91 without); fewest where most families have an AUROC of 1.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from interp_jax.errors import InputError

LEVEL, CALLIPER = 0.95, 0.2


class Scored(NamedTuple):
    """Scores of a family's accepted models, [R 2]: with f and with g declared; their arms, seeds, and reliance on g.

    `again`: with f told otherwise, of models that learned it; NaN of others. None where it is told in one way alone.
    """

    score: Float[np.ndarray, "R 2"]
    arm: np.ndarray
    seed: Int[np.ndarray, " R"]
    reliance: Float[np.ndarray, " R"]
    again: Float[np.ndarray, " R"] | None = None

    def of(self, rows: np.ndarray) -> "Scored":
        """Some of the models."""
        return Scored(*(None if one is None else np.asarray(one)[rows] for one in self))


class Both(NamedTuple):
    """What two diagnosers say of the same models."""

    first: Scored
    second: Scored

    @property
    def seed(self) -> Int[np.ndarray, " R"]:
        """Of the models."""
        return self.first.seed

    def of(self, rows: np.ndarray) -> "Both":
        """Some of the models."""
        return Both(self.first.of(rows), self.second.of(rows))


class Estimate(NamedTuple):
    """A number and the interval of its bootstrap."""

    value: float
    low: float
    high: float


def truth(arm: np.ndarray) -> tuple[np.ndarray, Bool[np.ndarray, "R 2"]]:
    """Rows of models that learned or cheated, and whether each is a cheat with f and with g declared."""
    rows = np.flatnonzero(np.isin(arm, ("learned", "cheated")))
    cheated = np.asarray(arm)[rows] == "cheated"
    return rows, np.stack([cheated, ~cheated], axis=1)


def auroc(cheats: Float[np.ndarray, " A"], others: Float[np.ndarray, " B"]) -> float:
    """P(cheat > other), ties half; NaN where there are none of either."""
    if not len(cheats) or not len(others):
        return float("nan")
    ranks = scipy.stats.rankdata(np.concatenate([cheats, others]))[: len(cheats)]
    return float((ranks.sum() - len(cheats) * (len(cheats) + 1) / 2) / (len(cheats) * len(others)))


def entries(scored: Scored, rule: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores of cheats and of the others: mirrored, or with one rule declared."""
    rows, cheated = truth(scored.arm)
    columns = slice(None) if rule is None else slice(rule, rule + 1)
    score, cheated = np.asarray(scored.score, np.float64)[rows][:, columns], cheated[:, columns]
    return score[cheated], score[~cheated]


def mirrored(scored: Scored) -> float:
    """AUROC, each model twice."""
    return auroc(*entries(scored))


def natural(scored: Scored) -> float:
    """AUROC with f declared."""
    return auroc(*entries(scored, 0))


def calliper(loss: Float[np.ndarray, " R"], arm: np.ndarray, width: float = CALLIPER) -> np.ndarray:
    """Rows of learned and cheated models matched one to one, nearest first, whose losses differ by at most that many sd."""
    learned, cheated = (np.flatnonzero(np.asarray(arm) == name) for name in ("learned", "cheated"))
    apart = np.abs(np.asarray(loss)[learned][:, None] - np.asarray(loss)[cheated][None])
    most, chosen = width * np.std(np.asarray(loss)[np.r_[learned, cheated]]), []
    for a, b in zip(*np.unravel_index(np.argsort(apart, axis=None, kind="stable"), apart.shape), strict=True):
        if apart[a, b] <= most and learned[a] not in chosen and cheated[b] not in chosen:
            chosen += [learned[a], cheated[b]]
    return np.sort(np.array(chosen, int))


def paired_accuracy(scored: Scored) -> float:
    """Share of pairs in which the cheat's score is the higher."""
    rows, cheated = truth(scored.arm)
    score, seed, right = np.asarray(scored.score)[rows], np.asarray(scored.seed)[rows], []
    for one in np.unique(seed):
        own = seed == one
        for rule in range(2):
            cheats, others = score[own & cheated[:, rule], rule], score[own & ~cheated[:, rule], rule]
            right += [np.sign(a - b) / 2 + 0.5 for a in cheats for b in others]
    return float(np.mean(right)) if right else float("nan")


def graded(scored: Scored) -> float:
    """Spearman's ρ of score and reliance over mixed models, f declared; NaN where it has no meaning."""
    rows = np.flatnonzero(np.asarray(scored.arm) == "mixed")
    score, reliance = np.asarray(scored.score)[rows, 0], np.asarray(scored.reliance)[rows]
    if len(rows) < 3 or np.ptp(score) == 0 or np.ptp(reliance) == 0:
        return float("nan")
    return float(scipy.stats.spearmanr(score, reliance).statistic)


def macro(families: Sequence[Scored], of: Callable[[Scored], float] = mirrored) -> float:
    """The mean over families that have a number; NaN where none has."""
    values = np.array([of(one) for one in families])
    return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else float("nan")


def worst(families: Sequence[Scored], of: Callable[[Scored], float] = mirrored) -> float:
    """The least of the families."""
    return float(np.nanmin([of(one) for one in families]))


def ahead(families: Sequence[Both]) -> float:
    """By how much the first diagnoser's mean AUROC is above the second's."""
    return macro([one.first for one in families]) - macro([one.second for one in families])


def bootstrap(
    families: Sequence[Any],
    of: Callable[[Sequence[Any]], float] = macro,
    draws: int = 1_000,
    seed: int = 0,
    redraw_families: bool = True,
) -> Estimate:
    """A number made of all families, with its interval.

    Args:
      families: `Scored` of each, or `Both`.
      of: the number.
      draws: of the bootstrap.
      seed: of these.
      redraw_families: whether families are drawn as well, or are the only ones that matter.

    Raises:
      InputError: there is no family.
    """
    if not families:
        raise InputError("there is no family to take a mean over")
    rng, found, litters = np.random.default_rng(seed), [], [_litters(one) for one in families]
    units = len(families) if redraw_families and len(families) > 1 else min(map(len, litters))
    for _ in range(draws):
        chosen = rng.integers(0, len(families), len(families)) if redraw_families else np.arange(len(families))
        found.append(of([families[i].of(_drawn(litters[i], rng)) for i in chosen]))
    low, high = np.nanquantile(found, [outside(units), 1 - outside(units)])
    return Estimate(of(families), float(low), float(high))


def outside(units: int, level: float = LEVEL) -> float:
    """Which share of a bootstrap of so many units to leave out on either side: Φ(√(n / (n - 1)) t), t of n - 1 degrees."""
    if units < 2:
        return 0.0
    return float(scipy.stats.norm.cdf(np.sqrt(units / (units - 1)) * scipy.stats.t.ppf((1 - level) / 2, units - 1)))


def _litters(scored: Scored | Both) -> list[np.ndarray]:
    """Rows of each seed."""
    return [np.flatnonzero(np.asarray(scored.seed) == one) for one in np.unique(scored.seed)]


def _drawn(litters: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Rows of as many seeds, drawn with replacement."""
    return np.concatenate([litters[i] for i in rng.integers(0, len(litters), len(litters))])
