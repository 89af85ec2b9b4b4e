"""Phase diagrams in the report of toy models: what was grown beside what the exact losses say."""

import numpy as np

from interp_jax.anatomy import phases
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.superposition.groups import final, name
from interp_jax.results import grid_plots, plots
from interp_jax.results.blocks import Block, Figure, Section


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
    drawn = grid_plots.phase_diagram(
        panels, phases.PHASES, density, last, axes, boundaries(fine, fine_density, fine_last)
    )
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
