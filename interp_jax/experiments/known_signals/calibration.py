"""Calibration of probes: what is planted is read as well as it can be, what is not there is not, and what is not used is told.

Rates are judged by an exact binomial test over 2,000 draws, at p < .001.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict
from scipy.stats import binomtest

from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_answers.calibration import judge
from interp_jax.experiments.known_signals.runs import seen

MODULE = "interp_jax.experiments.known_signals"
SEEDS = {"a cue": 4}  # others 8; of a rate, each has 250 draws
REJECTED = 1e-3
# the truth in words, and the largest error of a figure in any run
READ = {
    "a line": ("two normal classes: Bayes's rate, and |cos| with its direction", 0.04),
    "an exclusive or": ("Bayes's rate of an MLP and a bilinear probe; a line ranks by chance", 0.04),
    "rank 3": ("six numbers that three directions say", 0.02),
    "two columns of sixty": ("a line along two columns: which, and Bayes's rate", 0.02),
    "truth without labels": ("statements and negations: which are true, and |cos|", 0.1),
    "a marked position": (
        "texts of which a marked position says the label: Bayes's rate, the mark, and what is read",
        0.1,
    ),
    "trees": ("words laid out as trees in half of the directions: numbers of edges, and which", 0.1),
    "labels in bits": ("what a line's labels cost who knows the law, and a coin's bit", 0.02),
    "memorised types": ("selectivity of a line in closed form, and 0 of an MLP that memorises", 0.08),
    "a cue": ("read off all models, used by half of them: all of the behaviour is lost, or none", 0.08),
}
# what is drawn, what is counted, the stated rate, and on which side of it a rate would be wrong
CLASSES = "two normal classes: the fitted line's accuracy in closed form"
COINS = "labels of a coin, beside the same in other orders"
BIASED = "labels of documents that have coins of their own, beside those of the documents in other orders"
ALIKE, BETTER = (
    "two readings that say equally much of the labels of documents",
    "share in which the first is called better",
)
HELD, CALLED = "share of 95% intervals with the true accuracy", "share called, where there is no signal"
RATED = {
    "intervals, held out": (CLASSES, HELD, 0.95, "two-sided"),
    "intervals, five folds": (CLASSES, HELD, 0.95, "two-sided"),
    "no signal, held out": (COINS, CALLED, 0.05, "greater"),
    "no signal, five folds, 19 orders": (COINS, CALLED, 0.05, "greater"),
    "no signal, documents, 19 orders": (BIASED, CALLED, 0.05, "greater"),
    "no more than another, paired by folds": (ALIKE, BETTER, 0.05, "greater"),
}


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    return [
        *(
            Instrument(f"probes: {name}", truth, partial(configs, name), partial(judge, bar))
            for name, (truth, bar) in READ.items()
        ),
        *(
            Instrument(f"probes: {name}", truth, partial(configs, name), partial(judge_rate, *rest))
            for name, (truth, *rest) in RATED.items()
        ),
    ]


def configs(signal: str, quick: bool) -> list[ConfigDict]:
    """Seeds of a signal."""
    return [compose(MODULE, signal=signal, seed=seed) for seed in range(1 if quick else SEEDS.get(signal, 8))]


def judge_rate(what: str, stated: float, side: str, groups: Sequence[GroupResult]) -> Verdict:
    """A rate against the stated one."""
    outcomes = np.concatenate([seen(group)["outcome"].ravel() for group in groups])
    hits, n = int(outcomes.sum()), len(outcomes)
    p = binomtest(hits, n, stated, side).pvalue
    low, high = binomtest(hits, n).proportion_ci(0.95)
    return Verdict(
        f"{what}; exact binomial test of {stated:.0%}: p = {p:.2g}",
        float(outcomes.mean()),
        float(low),
        float(high),
        n,
        f"{stated:.0%} is not rejected at p < {REJECTED}",
        bool(p >= REJECTED),
    )
