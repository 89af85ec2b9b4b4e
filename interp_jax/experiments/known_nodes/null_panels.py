"""How often methods call a node where nothing is to be found."""

import numpy as np

from interp_jax.experiments.known_nodes.false_positives import called_by_both
from interp_jax.experiments.known_nodes.runs import METHODS, SIZES
from interp_jax.experiments.known_nodes.scores import LEVEL, Population, changes, covered, signs
from interp_jax.patching.prompts import DIRECTIONS
from interp_jax.results.blocks import Block, Section, TableBlock, Text
from interp_jax.results.tables import Interval, Table, interval

TITLES = {
    "no_mean_effect": "Where nodes have no effect on average",
    "no_effect": "Where nothing has any effect but rounding",
}
TEXTS = {
    "no_mean_effect": "Weights are random, and so are the answers: by symmetry the mean effect of every node is 0. The "
    "sign-flip test is exact there, whatever the effects' distribution.",
    "no_effect": "Queries, keys, patterns and the stream change with an earlier token, and the answer cannot. What is measured "
    "is rounding, or exactly 0. Random parts of attention's output do have effects, as they mix what is read with what is not: "
    "so a node's size beside theirs tells rounding from effects.",
}
COLUMNS = ("method", "calls at p ≤ 5%, %", "grids with a corrected p ≤ 5%, %", "calls by test and size, %")


def rates(population: Population) -> list[Block]:
    """Rates of calls, by method."""
    rows = [
        (label, *map(percent, (by_test(population, m), by_grid(population, m), by_both(population, m))))
        for m, label in METHODS.items()
    ]
    largest = max(float(np.abs(population.seen[f"{way}.{m}"]).max()) for way in DIRECTIONS for m in METHODS)
    random = float(np.mean([np.abs(population.seen[f"{way}.random"].mean(-1)).mean() for way in DIRECTIONS]))
    caption = (
        f"{len(population)} models, both ways; nodes for which a method gives any effect at all. AtP* gives sizes, which have "
        f"no sign to test: of them, calls by size alone. Largest effect of any node on an example {largest:.2g}, mean size of "
        f"a random node's mean effect {random:.2g}."
    )
    title, text = TITLES[population.circuit], TEXTS[population.circuit]
    blocks = [Section(title, text), TableBlock(Table(COLUMNS, rows, caption))]
    return blocks + coverage(population) if population.circuit == "no_mean_effect" else blocks


def coverage(population: Population) -> list[Block]:
    """How often intervals hold the true mean."""
    held = interval(np.mean([covered(population, way).mean(1) for way in DIRECTIONS], 0))
    n = population.seen["clean"].shape[1]
    text = (
        f"The bootstrap's 95% intervals of exact effects hold the true mean, 0, in {held.mean:.1%} of cells ({held.low:.1%} to "
        f"{held.high:.1%}): over {n} examples, whose effects have heavy tails."
    )
    return [Text(text)]


def percent(values: np.ndarray | None) -> Interval | str:
    """A rate over runs."""
    return "–" if values is None else interval(100 * values)


def by_test(population: Population, method: str) -> np.ndarray | None:
    """By the sign-flip test of each node alone, [R]."""
    if method in SIZES:
        return None
    calls = [
        (signs(population, way, method).p <= LEVEL)[:, changes(population, way, method)].mean(1) for way in DIRECTIONS
    ]
    return np.mean(calls, 0)


def by_grid(population: Population, method: str) -> np.ndarray | None:
    """Runs in which any node is called, corrected for the grid, [R]."""
    if method in SIZES:
        return None
    return np.mean([(signs(population, way, method).family_wise <= LEVEL).any(1) for way in DIRECTIONS], 0)


def by_both(population: Population, method: str) -> np.ndarray:
    """By test and size together, [R]."""
    calls = [
        called_by_both(population, way, method)[:, changes(population, way, method)].mean(1) for way in DIRECTIONS
    ]
    return np.mean(calls, 0)
