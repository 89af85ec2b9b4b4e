"""All runs of a sweep in one view, by what the sweep set, whatever the experiment: it is part of the report of every sweep.

One thing that was set and a second one make a heat map of their combinations, more make parallel coordinates. Seeds are no such
thing: a cell is the mean over them. What a run is worth is the last number of a metric, its loss where it has one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.table import swept
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Section
from interp_jax.results.sweep_plots import Coordinate, parallel

SEED, EXPERIMENT = "seed", "experiment"
MOST_CELLS = 60  # along a side of a heat map
MOST_LINES = 2_000  # runs that are drawn as lines
MOST_AXES = 9

Column = list[Any]


def overview(configs: Mapping[str, Mapping[str, Any]], groups: Sequence[GroupResult]) -> list[Block]:
    """A section with a heat map or parallel coordinates of the finished runs; nothing where fewer than two things were set."""
    columns = independent({name: values for name, values in swept(configs).items() if name != SEED})
    metric = main_metric(groups)
    if len(columns) < 2 or metric is None or EXPERIMENT in columns:
        return []
    last = {h: v for group in groups for h, v in zip(group.hashes, last_values(group, metric), strict=True)}
    values = np.array([last.get(h, np.nan) for h in configs])
    sides = [distinct(column) for column in columns.values()]
    if len(columns) == 2 and max(map(len, sides)) <= MOST_CELLS:
        figure, caption = grid(columns, sides, values, metric)
    else:
        figure, caption = coordinates(columns, values, metric)
    return [Section("The sweep in one view"), Figure(figure, caption)]


def independent(columns: Mapping[str, Column]) -> dict[str, Column]:
    """The columns without those that say the same as one before them, since a sweep may set several keys together."""
    kept: dict[tuple[int, ...], str] = {}
    for name, values in columns.items():
        first: dict[str, int] = {}
        kept.setdefault(tuple(first.setdefault(repr(value), len(first)) for value in values), name)
    return {name: columns[name] for name in kept.values()}


def main_metric(groups: Sequence[GroupResult]) -> str | None:
    """The metric by which runs are compared: the loss, else the first that all groups have."""
    shared = [name for name in groups[0].metrics if all(name in group.metrics for group in groups)]
    return "loss" if "loss" in shared else next(iter(shared), None)


def last_values(group: GroupResult, metric: str) -> list[float]:
    """The last number of each run [R] that is one; NaN where there is none."""
    return [float(next((v for v in column[::-1] if np.isfinite(v)), np.nan)) for column in group.metrics[metric].T]


def distinct(column: Column) -> Column:
    """Its values once each, numbers by size."""
    return sorted(
        set(column), key=lambda v: (isinstance(v, str) or v is None, str(v) if isinstance(v, str) else v or 0)
    )


def grid(columns: Mapping[str, Column], sides: Sequence[Column], values: np.ndarray, metric: str) -> tuple[Any, str]:
    """The heat map of two things that were set: what has more values goes to the right."""
    across, down = (1, 0) if len(sides[1]) >= len(sides[0]) else (0, 1)
    (x_name, x), (y_name, y) = list(columns.items())[across], list(columns.items())[down]
    sums, counts = np.zeros((2, len(sides[down]), len(sides[across])))
    for value, a, b in zip(values, y, x, strict=True):
        if np.isfinite(value):
            cell = sides[down].index(a), sides[across].index(b)
            sums[cell] += value
            counts[cell] += 1
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    names = [[str(v) for v in side] for side in (sides[across], sides[down])]
    figure = plots.heatmap(means, plots.Axes(x_name, y_name), metric, *names)
    most = int(counts.max())
    several = f", mean over up to {most} runs" if most > 1 else ""
    return figure, f"Last {metric} of each combination{several}. Cells without a finished run are empty."


def coordinates(columns: Mapping[str, Column], values: np.ndarray, metric: str) -> tuple[Any, str]:
    """The finished runs as lines, coloured by the metric; of very many, every so many are drawn."""
    there = np.flatnonzero(np.isfinite(values))
    shown = there[:: max(-(-len(there) // MOST_LINES), 1)]
    names = list(columns)[: MOST_AXES - 1]
    axes = [Coordinate(name, [columns[name][i] for i in shown]) for name in names]
    axes.append(Coordinate(metric, values[shown].tolist()))
    of = f"{len(shown):,} of {len(there):,} finished runs" if len(shown) < len(there) else "Finished runs"
    left = f" {len(columns) - len(names)} more things were set." if len(columns) > len(names) else ""
    caption = f"{of}, a line each, coloured by the last {metric}.{left}"
    return parallel(axes, values[shown], metric), caption
