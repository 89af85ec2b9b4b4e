"""What searches found, as maps, tables and plots: by place, by variant, by dimensions asked for, beside a copy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from interp_jax.experiments.alignment.runs import EVALUATIONS
from interp_jax.experiments.alignment.scores import (
    KINDS,
    Population,
    accuracy,
    chance,
    dimensions,
    scaled,
    share,
)
from interp_jax.models.relay_circuit import HELD, mixed_share
from interp_jax.results import grid_plots, plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.tables import Interval, Table, interval

NAMES = {
    "learned": "search",
    "random": "random subspace",
    "shuffled": "shuffled",
    "random_model": "random weights",
    "untouched": "no exchange",
    "whole": "whole",
}
MAPS = """A relay hands the class of the token at position 1 from layer to layer, one position further in each: after layer l it
is held at position l + 2, in a plane of d dimensions, and nowhere else. Behind that position classes still stand in the stream,
but nothing reads them any more; ahead of it the stream is still read, but has not heard of position 1."""


def maps(located: Sequence[Population]) -> list[Block]:
    """Accuracy after every layer at every position, by variant, and of the controls of the first."""
    panels = [(name(one), above_chance(one, "learned")) for one in located]
    panels += [(NAMES[what], above_chance(located[0], what)) for what in EVALUATIONS if what != "learned"]
    titles, matrices = zip(*panels, strict=True)
    L, P = matrices[0].shape
    axes = plots.Axes(f"position, 0 to {P - 1}", f"layer, {L - 1} to 0")
    figure = grid_plots.heatmap_grid(matrices, titles, axes, "accuracy, 0: chance, 1: always", columns=4)
    d = ", ".join(f"{d}" for d in np.unique(located[0].stated["dimensions"]))
    n, searches = len(located[0]), located[0].config.searches
    caption = (
        f"Interchange accuracy on held-out pairs, from 1/(d + 1) to 1; mean over {n} models of d = {d}, with {searches} "
        f"searches in each. First the searches, by variant, then the controls of {name(located[0])}. Expect a diagonal, also "
        "of the whole vector, which holds the plane, and nothing in any other control, but that random weights can be steered "
        "a little at position 1, where the token itself stands."
    )
    return [Section("Where the variable is found", MAPS), Figure(figure, caption), beside_controls(located)]


def above_chance(population: Population, what: str) -> Float[np.ndarray, "L P"]:
    """(accuracy - chance) / (1 - chance), mean over runs and searches."""
    lowest = chance(population)[:, None, None]
    above = ((population.seen[what] - lowest) / (1 - lowest)).mean((0, 2))
    layers, positions = (population.seen[of][0] for of in ("layer", "position"))
    found = np.full((layers.max() + 1, positions.max() + 1), np.nan)
    found[layers, positions] = above
    return found


def name(population: Population) -> str:
    """Of the variant, and its rank."""
    config = population.config
    return f"low rank, {config.columns}" if config.variant == "low_rank" else config.variant


def beside_controls(located: Sequence[Population]) -> TableBlock:
    """Accuracy in percent of the way from chance to 1, by kind of place."""
    rows = [
        (name(one), kind, *(percent(scaled(one, what, kind)) for what in EVALUATIONS))
        for one in located
        for kind in KINDS
        if kind in one.kinds
    ]
    columns = ("variant", "place", *(NAMES[what] for what in EVALUATIONS))
    caption = (
        "The same in percent, by what a place is to the variable, with intervals over models, each with held-out pairs of its "
        "own. Rows are of the same models and pairs, so that what is left to chance is alike in all of them."
    )
    return TableBlock(Table(columns, rows, caption))


def percent(values: Float[np.ndarray, " R"]) -> Interval | float:
    """Mean and interval, or the mean alone where all values are the same."""
    found = interval(100 * values)
    return found if found.high > found.low else found.mean


def subspaces(located: Sequence[Population]) -> list[Block]:
    """Which subspace was found, and of how many dimensions."""
    rows = []
    for one in located:
        for d in np.unique(one.stated["dimensions"]).tolist():
            of = one.of_dimensions(d)
            expected = float(dimensions(of, HELD).mean() / of.config.width)
            cells = (share(of), share(of, "shared_random"))
            rows.append((name(one), d, *(counts(of, kind) for kind in KINDS), *map(percent, cells), 100 * expected))
    columns = ("variant", "true d", *(f"k, {kind}" for kind in KINDS), "share of the plane", "random", "by chance")
    text = (
        "The share of the true plane that lies in the subspace which was found: Σ cos² of the principal angles / d. Accuracy "
        "says that a subspace works; the share, that it is the one that the model uses. Boundless searches choose k "
        "themselves; ahead of the variable they may keep some, since it pays to make a wrong answer less sure: k alone is no "
        "evidence."
    )
    caption = "Shares in percent, where the variable is held; in random subspaces of as many dimensions; and k / D, their mean."
    return [Section("Which subspace is found", text), TableBlock(Table(columns, rows, caption))]


def counts(population: Population, kind: str) -> str:
    """Dimensions of subspaces at a kind of place."""
    found = dimensions(population, kind)
    return " to ".join(f"{n}" for n in sorted({int(found.min()), int(found.max())})) if found.size else "–"


def by_dimensions(population: Population) -> list[Block]:
    """Accuracy against the number of dimensions that are asked for."""
    asked = population.where((population.stated["k"] > 0) & (population.stated["bystander"] == 0))
    series = []
    for d in np.unique(asked.stated["dimensions"]).tolist():
        of = asked.of_dimensions(d)
        at = np.unique(of.stated["k"])
        each = [interval(accuracy(of.where(of.stated["k"] == k), "learned", HELD)) for k in at]
        mean, low, high = np.array(each).T
        series.append(plots.Line(f"d = {d}", at, mean, low, high))
    axes = plots.Axes("k, dimensions of the subspace", "interchange accuracy", y_range=(0, 1.03))
    n = len(asked) // sum(len(line.x) for line in series)
    caption = (
        f"Mean over {n} models of one layer, with 95% intervals. Expect 1 from k = d on, and of six classes in five dimensions "
        "from k = 4 on: four suffice to bring each nearer to its own vertex than to any other. What is too large costs "
        "nothing. So accuracy alone does not give the dimension."
    )
    return [Section("How many dimensions it takes"), Figure(plots.lines(series, axes), caption)]


COPY = """A model may write a variable into directions that nothing reads. Along cos θ of the plane and sin θ of a copy b times
as large, an interchange moves the plane by cos θ (cos θ + b sin θ) of the difference, which is more than all of it up to
tan θ = b. So a search that still has loss to gain ends at θ = arctan(b) / 2, with (1 + 1/√(1 + b²)) / 2 of the plane, and its
accuracy says nothing of that (Makelov et al. 2023): only a look at what reads the subspace does."""


def beside_a_copy(population: Population) -> list[Block]:
    """The share of the plane, and of a copy that nothing reads, against the size of the copy."""
    copied = population.where(population.stated["bystander"] > 0)
    sizes = np.unique(copied.stated["bystander"])
    each = [copied.where(copied.stated["bystander"] == b) for b in sizes]

    def line(label: str, values: Sequence[Float[np.ndarray, " R"]]) -> plots.Line:
        mean, low, high = np.array([interval(one) for one in values]).T
        return plots.Line(label, sizes, mean, low, high)

    grid = np.linspace(0, 1.05 * sizes.max(), 60)
    series = [
        plots.Line("plane, closed form", grid, np.array([mixed_share(float(b)) for b in grid])),
        line("share of the plane", [share(one) for one in each]),
        line("share of the copy", [share(one, "shared_bystander") for one in each]),
        line("accuracy", [accuracy(one, "learned", HELD) for one in each]),
    ]
    axes = plots.Axes("b, size of the copy", "share", y_range=(0, 1.03))
    n = len(each[0])
    caption = (
        f"Mean over {n} models of one layer for each size, of 1 to 3 dimensions; an answer is only e² times as likely "
        "as another one, so that there is loss to gain."
    )
    return [Section("What accuracy does not show", COPY), Figure(plots.lines(series, axes), caption)]
