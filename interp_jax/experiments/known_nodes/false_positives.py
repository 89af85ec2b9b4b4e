"""Calibration of patching where nothing is to be found: how often a node is called, and whether intervals hold the truth.

Weights are random, and so are the answers: nodes have effects on an example, and by symmetry none on average. A rate is judged
by an exact binomial test over one node of each run, another in the next, at p < .001.

A model without any effect is another matter: what is measured of it is rounding, which can have one sign on all examples, and
which the test alone would call. So a node is called by test and size together: p ≤ 5%, and a mean effect that at most 5% of
random subspaces of attention's output, as wide as a head, reach. AtP* gives sizes, which have no sign to test.
"""

from functools import partial

import numpy as np

from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.known_nodes.populations import Overrides, without_effect
from interp_jax.experiments.known_nodes.runs import METHODS, SIZES
from interp_jax.experiments.known_nodes.scores import LEVEL, Population, changes, covered, signs, stands_out
from interp_jax.experiments.known_nodes.verdicts import at_most, one_each, row, verdict
from interp_jax.patching.prompts import DIRECTIONS

LEAST_COVERAGE = 0.95
BAR = f"at most {LEVEL:.0%}"


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    drawn = "random weights and answers: no effect on average"
    rates = [
        row(f"{label}, false positives", drawn, on_average, partial(judge_rate, method))
        for method, label in METHODS.items()
        if method not in SIZES
    ]
    return [
        *rates,
        row("exact, false grids", drawn, on_average, judge_family),
        row("exact, intervals", drawn, on_average, judge_coverage),
        row("test and size, false positives", "a model in which nothing has an effect", on_none, judge_rounding),
    ]


def on_average(quick: bool) -> Overrides:
    """Models whose nodes have no mean effect."""
    return without_effect(quick, "no_mean_effect")


def on_none(quick: bool) -> Overrides:
    """Models whose nodes have no effect."""
    return without_effect(quick, "no_effect")


def judge_rate(method: str, populations: list[Population]) -> Verdict:
    """The rate at which the sign-flip test calls a node, among those for which the method gives any effect."""
    (population,) = populations
    calls = [(signs(population, way, method).p <= LEVEL)[:, changes(population, way, method)] for way in DIRECTIONS]
    rates = np.mean([called.mean(1) for called in calls], 0)
    held = all(at_most(LEVEL, one_each(called)) for called in calls)
    return verdict(f"rate of nodes with p ≤ {LEVEL:.0%}", rates, BAR, held)


def judge_family(populations: list[Population]) -> Verdict:
    """The rate of runs in which any node is called, by p-values corrected for the grid."""
    (population,) = populations
    calls = [(signs(population, way, "exact").family_wise <= LEVEL).any(1) for way in DIRECTIONS]
    held = all(at_most(LEVEL, called) for called in calls)
    return verdict(f"rate of grids with a corrected p ≤ {LEVEL:.0%}", np.mean(calls, 0), BAR, held)


def judge_coverage(populations: list[Population]) -> Verdict:
    """How often the bootstrap's 95% interval holds the true mean effect."""
    (population,) = populations
    rates = np.mean([covered(population, way).mean(1) for way in DIRECTIONS], 0)
    bar = f"at least {LEAST_COVERAGE:.0%} on average, over 12 examples"
    return verdict("share of 95% intervals with the true mean", rates, bar, rates.mean() >= LEAST_COVERAGE)


def judge_rounding(populations: list[Population]) -> Verdict:
    """The rate at which test and size together call a node, by any method."""
    (population,) = populations
    rates = np.stack([called_by_both(population, way, method).mean(1) for way in DIRECTIONS for method in METHODS])
    return verdict("rate of nodes called, by any method", rates.mean(0), "none in any run", not rates.any())


def called_by_both(population: Population, direction: str, method: str) -> np.ndarray:
    """Nodes that test and size call, [R C]; of sizes, size alone."""
    large = stands_out(population, direction, method)
    return large if method in SIZES else large & (signs(population, direction, method).p <= LEVEL)
