"""What to say of a population of toy models: every panel for which a sweep has grown the models."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from interp_jax.anatomy import geometry, phases
from interp_jax.experiments.experiment import GroupResult
from interp_jax.results import plots
from interp_jax.results.report import Block, Figure, Page, Section, TableBlock
from interp_jax.results.tables import Table, interval

MOST_PANELS = 10  # small multiples in a figure
FEW, MANY = 60, 20  # features: at most FEW for a readable matrix, at least MANY for a cloud of dimensionalities
SUMMARY = """Toy models squeeze sparse features through few hidden dimensions (Elhage et al. 2022, "Toy Models of
Superposition"). Dense features get a dimension each and the rest are dropped; sparse features share dimensions, in the shapes
of regular polytopes, and change from one to the other abruptly. S is the probability that a feature is absent."""


class Cell(NamedTuple):
    """One setting: the index of its best seed in the group, and of all its seeds."""

    best: int
    seeds: np.ndarray


def report(groups: list[GroupResult]) -> Page:
    """The page: one section per kind of panel and group."""
    blocks: list[Block] = []
    for applies, panel in PANELS:
        for group in groups:
            if applies(group):
                blocks += panel(group)
    return Page("Toy models of superposition", SUMMARY, [*blocks, *overview(groups)])


def name(group: GroupResult) -> str:
    """A group in words."""
    model, data = group.config.model, group.config.data
    kind = {"relu": "", "linear": ", linear", "absolute": ", absolute value"}[model.kind]
    dependence = "" if data.dependence == "independent" else f", {data.dependence} in sets of {data.set_size}"
    dimensions = "one dimension" if model.n_hidden == 1 else f"{model.n_hidden} dimensions"
    return f"{model.n_features} features in {dimensions}{kind}{dependence}"


def final(group: GroupResult) -> dict[str, np.ndarray]:
    """The last observation."""
    return group.observations[max(group.observations)]


def directions(group: GroupResult) -> np.ndarray:
    """Directions of the features, [R, S, D]: rows of the tied W, or of what the neurons read."""
    seen = final(group)
    return seen["W"] if "W" in seen else seen["W_in"]


def cells(group: GroupResult) -> list[Cell]:
    """The settings of a group, all hypers but the seed, by sparsity and then by importance."""
    data = group.config.data
    keys = np.stack([data.sparsity, data.importance_decay, data.last_importance], 1)
    loss = np.where(group.diverged_at < 0, final(group)["loss"], np.inf)
    at = [np.flatnonzero((keys == setting).all(1)) for setting in np.unique(keys, axis=0)]
    return [Cell(int(seeds[np.argmin(loss[seeds])]), seeds) for seeds in at]


def titles(group: GroupResult, chosen: Sequence[Cell]) -> list[str]:
    """A title per cell: sparsity, and importance decay where that is swept too."""
    data = group.config.data
    decay = [f", decay {d:.2g}" if len(set(data.importance_decay)) > 1 else "" for d in data.importance_decay]
    return [f"S = {data.sparsity[c.best]:.3g}{decay[c.best]}" for c in chosen]


# ---------------------------------------------------------------------------------------- in the plane


def is_plane(group: GroupResult) -> bool:
    """Whether directions can be drawn as arrows."""
    return group.config.model.n_hidden == 2 and group.config.model.kind != "absolute" and not is_phases(group)


def plane(group: GroupResult) -> list[Block]:
    """Features in the plane, the best seed of each setting."""
    chosen, W = cells(group), directions(group)
    law, index = group.config.data, np.arange(W.shape[1])
    if law.dependence == "independent":
        colours, meaning = np.mean(law.importance_decay) ** index, "importance"
    else:
        colours, meaning = index // law.set_size, "set"
    axes = plots.Axes("hidden 0", "hidden 1")
    arrows = plots.arrows_grid([W[c.best] for c in chosen], titles(group, chosen), axes, colours, meaning, columns=4)
    text = f"Each arm is a feature's direction W_i in the two hidden dimensions: the best of {len(chosen[0].seeds)} seeds."
    return [
        Section(f"In the plane: {name(group)}", text),
        Figure(arrows, EXPECTED[expectation(group)]),
        *curves(group, chosen),
    ]


def expectation(group: GroupResult) -> str:
    """Which of the captions fits."""
    return "linear" if group.config.model.kind == "linear" else group.config.data.dependence


EXPECTED = {
    "independent": "From dense to sparse. Expect the two most important features alone and orthogonal, then antipodal pairs, "
    "then all five as a regular pentagon.",
    "correlated": "Expect features of a set, which are present together, to lie orthogonal to each other, each sharing a line "
    "with one of another set. Where they are too dense for that, a set collapses to a single direction, its sum.",
    "anticorrelated": "Expect features of a set, which are never present together, to form antipodal pairs. Where two sets are "
    "seldom present together either, it hardly matters any more who shares a line with whom.",
    "linear": "Without the ReLU nothing is gained by sharing: expect the two most important features, orthogonal, at any "
    "sparsity.",
}


def curves(group: GroupResult, chosen: Sequence[Cell]) -> list[Block]:
    """Training loss of each setting, mean over seeds."""
    picked = [c for c in chosen if len(c.seeds) > 1][:MOST_PANELS]
    series = []
    for cell, title in zip(picked, titles(group, picked), strict=True):
        loss = group.metrics["loss"][:, cell.seeds]
        whole = np.isfinite(loss).all(1)
        mean, low, high = np.array([interval(row) for row in loss[whole]]).T
        series.append(plots.Line(title, group.metric_steps[whole], mean, np.maximum(low, mean / 2), high))
    axes = plots.Axes("step", "loss", y_scale="log")
    return (
        [Figure(plots.lines(series, axes), "Training loss: mean over seeds, with its 95% interval.")] if series else []
    )


# ------------------------------------------------------------------------------------------- matrices


def is_matrix(group: GroupResult) -> bool:
    """Whether the features are few enough for a readable matrix, and too many dimensions for arrows."""
    return 2 < group.config.model.n_hidden and group.config.model.n_features <= FEW


def matrices(group: GroupResult) -> list[Block]:
    """Inner products of features, or for a hidden ReLU what each neuron reads."""
    chosen, W = cells(group)[:MOST_PANELS], directions(group)
    if group.config.model.kind == "absolute":
        shown, axes, caption = [W[c.best].T for c in chosen], plots.Axes("feature", "neuron"), READS
    else:
        shown, axes, caption = (
            [np.asarray(geometry.gram(W[c.best])) for c in chosen],
            plots.Axes("feature", "feature"),
            GRAM,
        )
    grid = plots.heatmap_grid(shown, titles(group, chosen), axes, "weight", columns=4)
    return [Section(f"Weights: {name(group)}"), Figure(grid, caption)]


GRAM = """WᵀW: on the diagonal how much of a feature is represented, off it how much two interfere. Expect a clean block of
the most important features where they are dense, and more features with more interference where they are sparse."""
READS = """What each neuron reads of each feature. Where features are dense, a neuron serves the positive or the negative
part of one; where they are sparse, of several: computation in superposition."""


# -------------------------------------------------------------------------------------- dimensionality


def is_cloud(group: GroupResult) -> bool:
    """Whether there are features and sparsities enough for curves over sparsity."""
    many = group.config.model.n_features >= MANY and group.config.model.kind != "absolute"
    return many and len(set(group.config.data.sparsity)) > 3


def dimensionality(group: GroupResult) -> list[Block]:
    """D* and D_i against 1/(1 − S)."""
    W, inverse = directions(group), 1 / (1 - group.config.data.sparsity)
    order = np.argsort(inverse)
    d_star = np.asarray(geometry.dimensions_per_feature(W))
    axes = plots.Axes("1 / (1 − S)", "D* = m / ‖W‖²", x_scale="log")
    ones = [plots.Reference(1.0, "1"), plots.Reference(0.5, "1/2")]
    line = plots.lines([plots.Line("D*", inverse[order], d_star[order])], axes, ones)
    kept = np.asarray(geometry.represented(W))
    points = np.broadcast_to(inverse[:, None], kept.shape)[kept], np.asarray(geometry.feature_dimensionality(W))[kept]
    axes = plots.Axes("1 / (1 − S)", "dimensionality D_i", x_scale="log", y_range=(0.0, 1.05))
    marks = [plots.Reference(value, f"{value:.3g} {shape}") for shape, value in geometry.POLYTOPES.items()]
    text = "How many hidden dimensions a feature takes up, on average (D*) and one by one (D_i = ‖W_i‖² / Σ_j (Ŵ_i·W_j)²)."
    return [
        Section(f"Dimensionality: {name(group)}", text),
        Figure(
            line,
            "Dense features take a dimension each, D* = 1; then a plateau near 1/2, where all lie in antipodal pairs.",
        ),
        Figure(
            plots.scatter([plots.Points("feature", *points)], axes, marks),
            "Every represented feature (‖W_i‖ > 0.5). They stick to the fractions of regular polytopes; features that have "
            "just begun to be represented, or that share a space with more than these shapes hold, lie between and below.",
        ),
    ]


# ---------------------------------------------------------------------------------------------- phases


def is_phases(group: GroupResult) -> bool:
    """Whether the importance of the last feature was swept in one of the shapes with exact losses."""
    shape = (group.config.model.n_features, group.config.model.n_hidden)
    return (
        shape in ((2, 1), (3, 2))
        and group.config.model.kind == "relu"
        and len(set(group.config.data.last_importance)) > 2
    )


def phase_panels(group: GroupResult) -> list[Block]:
    """Measured phases beside those of the exact losses."""
    data, model = group.config.data, group.config.model
    density, last = np.unique(1 - data.sparsity), np.unique(data.last_importance)
    fine_density, fine_last = halved(density), halved(last)
    fine = predicted(model.n_features, model.n_hidden, fine_density, fine_last)
    measured, exact, away = measured_phases(group, density, last), fine[::2, ::2], uniform_around(fine)
    axes = plots.Axes("density 1 − S", "relative importance of the last feature", x_scale="log", y_scale="log")
    panels = [("measured: best of the seeds", measured), ("theory: smallest exact loss", exact)]
    drawn = plots.phase_diagram(panels, phases.PHASES, density, last, axes, boundaries(fine, fine_density, fine_last))
    agree, seen = measured == exact, measured >= 0
    caption = (
        f"{agree[seen & away].mean():.1%} of the {(seen & away).sum()} cells away from a boundary agree,"
        f" {agree[seen].mean():.1%} of all. Away: in theory one phase holds at the cell and at the eight points half a cell"
        " from it."
    )
    return [Section(f"Phase diagram: {name(group)}", PHASE_TEXT), Figure(drawn, caption)]


PHASE_TEXT = """What becomes of the last feature as its density and its importance relative to the others change: it is ignored,
it gets a dimension of its own, or it shares one. In theory each cell takes the solution of smallest expected loss, computed
exactly and minimised over weights and biases; the lines are the boundaries. Expect superposition at low density, and an
abrupt change."""


def measured_phases(group: GroupResult, density: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Phase of the seed with the smallest exact loss in each cell, [Y, X]; -1 where there is none."""
    data, seen = group.config.data, final(group)
    loss = phases.exact_losses(seen["W"], seen["b"], 1 - data.sparsity, data.last_importance)
    phase = np.asarray(phases.phase_of_last(seen["W"]))
    rows, columns = np.searchsorted(last, data.last_importance), np.searchsorted(density, 1 - data.sparsity)
    cells = np.full((len(last), len(density)), -1)
    for i in np.argsort(-loss):  # so that the smallest loss is written last
        cells[rows[i], columns[i]] = phase[i]
    return cells


def predicted(n_features: int, n_hidden: int, density: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Phase of the best solution at each (importance, density), [Y, X]."""
    importance, p = np.meshgrid(last, density, indexing="ij")
    return phases.best_solutions(n_features, n_hidden, p.ravel(), importance.ravel()).phase.reshape(p.shape)


def halved(values: np.ndarray) -> np.ndarray:
    """Increasing positive values and their geometric means between them."""
    return np.sort(np.r_[values, np.sqrt(values[1:] * values[:-1])])


def uniform_around(fine: np.ndarray) -> np.ndarray:
    """Whether a cell's phase is that of the eight points around it, which lie half a cell away."""
    rows, columns = fine.shape
    padded = np.pad(fine, 1, mode="edge")
    around = np.stack([padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)])
    return (around == fine).all(0)[::2, ::2]


def boundaries(fine: np.ndarray, density: np.ndarray, last: np.ndarray) -> list[plots.Line]:
    """For each pair of neighbouring phases, the importance at which one gives way to the other, by density."""
    points: dict[str, list[tuple[float, float]]] = {}
    for column, p in zip(fine.T, density, strict=True):
        for i in np.flatnonzero(np.diff(column)):
            pair = f"{phases.PHASES[column[i]]} | {phases.PHASES[column[i + 1]]}"
            points.setdefault(pair, []).append((p, np.sqrt(last[i] * last[i + 1])))
    return [plots.Line(pair, *np.array(xy).T) for pair, xy in points.items() if len(xy) > 1]


# -------------------------------------------------------------------------------------------- overview


def overview(groups: Sequence[GroupResult]) -> list[Block]:
    """One row per group."""
    rows: list[Any] = []
    for group in groups:
        kept = np.asarray(geometry.represented(directions(group))).sum(1)
        counts = f"{kept.min()}–{kept.max()}"
        rows.append((name(group), len(group.hashes), group.config.steps, counts, float(group.seconds.sum())))
    columns = ("population", "runs", "steps", "features represented", "seconds")
    return [
        Section("All runs"),
        TableBlock(Table(columns, rows, "A feature counts as represented where ‖W_i‖ > 0.5.")),
    ]


PANELS: tuple[tuple[Callable[[GroupResult], bool], Callable[[GroupResult], list[Block]]], ...] = (
    (is_plane, plane),
    (is_matrix, matrices),
    (is_cloud, dimensionality),
    (is_phases, phase_panels),
)
