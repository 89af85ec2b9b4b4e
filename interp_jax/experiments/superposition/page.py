"""What to say of a population of toy models: every panel for which a sweep has grown the models."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interp_jax.anatomy import geometry
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.superposition.groups import Cell, cells, directions, name, titles
from interp_jax.experiments.superposition.phases import is_phases, phase_panels
from interp_jax.results import grid_plots, plots
from interp_jax.results.blocks import Block, Figure, Page, Section, TableBlock
from interp_jax.results.tables import Table, interval

MOST_PANELS = 10  # small multiples in a figure
FEW, MANY = 60, 20  # features: at most FEW for a readable matrix, at least MANY for a cloud of dimensionalities
SUMMARY = """Toy models squeeze sparse features through few hidden dimensions (Elhage et al. 2022, "Toy Models of
Superposition"). Dense features get a dimension each and the rest are dropped; sparse features share dimensions, in the shapes
of regular polytopes, and change from one to the other abruptly. S is the probability that a feature is absent."""


def report(groups: list[GroupResult]) -> Page:
    """The page: one section per kind of panel and group."""
    blocks: list[Block] = []
    for applies, panel in PANELS:
        for group in groups:
            if applies(group):
                blocks += panel(group)
    return Page("Toy models of superposition", SUMMARY, [*blocks, *overview(groups)])


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
    arrows = grid_plots.arrows_grid(
        [W[c.best] for c in chosen], titles(group, chosen), axes, colours, meaning, columns=4
    )
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
    grid = grid_plots.heatmap_grid(shown, titles(group, chosen), axes, "weight", columns=4)
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
