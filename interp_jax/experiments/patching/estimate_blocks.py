"""The blocks of the report about estimates: how far attribution patching agrees with exact patching, on every grid."""

import numpy as np
import plotly.graph_objects as go

from interp_jax.experiments.patching.cells import BY_HEAD, BY_POSITION, TITLES, WHOLE
from interp_jax.experiments.patching.ranking import plain
from interp_jax.experiments.patching.view import DONE, View
from interp_jax.patching.attribution.agreement import Agreement, agreement
from interp_jax.patching.exact.recordings import DIRECTIONS
from interp_jax.results import plots
from interp_jax.results.plot_style import GREY
from interp_jax.results.report import Block, Figure, Section, TableBlock
from interp_jax.results.tables import Table

METHODS = {"estimate": "AtP", "softmax": "AtP, exact softmax"}


def estimate_blocks(view: View) -> list[Block]:
    """Agreement in numbers, and node by node."""
    rows = [row for direction in DIRECTIONS for row in agreement_rows(view, direction)]
    columns = ("", "what", "method", "nodes", "slope", "R²", "Spearman")
    caption = "Agreement of estimated with exact mean effects over the nodes of each grid, denoising and noising."
    blocks: list[Block] = [
        Section(
            "How far estimates agree",
            "Attribution patching (AtP) takes every node's effect from one backward pass: `(source - base) · gradient`. It"
            " is exact where the metric is linear in the node, and blind where a softmax is saturated, as attention is that"
            " looks at one place. For queries and keys the softmax is therefore computed again, exactly, as in AtP*. Slope"
            " is that of the estimate against the exact effect: 1 is right, below 1 is too small.",
        ),
        TableBlock(Table(columns, rows, caption)),
    ]
    return blocks + [scatter_block(view, direction) for direction in DIRECTIONS]


def agreement_rows(view: View, direction: str) -> list[tuple]:
    """A row for each grid and method."""
    rows = []
    for name in (*BY_POSITION, *BY_HEAD, *WHOLE):
        for method, title in METHODS.items():
            if view.has(f"{method}.{name}") and view.shares(direction, name).size > 1:
                found = agreement_of(view, direction, name, method)
                numbers = [plain(x) for x in (found.slope, found.r_squared, found.spearman)]
                rows.append((direction, TITLES[name], title, view.shares(direction, name).size, *numbers))
    return rows


def agreement_of(view: View, direction: str, name: str, method: str) -> Agreement:
    """Of mean effects, as shares."""
    exact, estimate = (view.shares(direction, what) for what in (name, f"{method}.{name}"))
    return agreement(estimate, exact, k=min(10, exact.size))


def scatter_block(view: View, direction: str) -> Figure:
    """Every node: its exact effect, and the estimate."""
    pairs = [(name, f"{method}.{name}") for method in METHODS for name in (*BY_POSITION, *BY_HEAD)]
    clouds = []
    for name, estimated in pairs:
        if view.has(estimated):
            title = TITLES[name] + (", exact softmax" if estimated.startswith("softmax") else "")
            x, y = (view.shares(direction, what).ravel() for what in (name, estimated))
            clouds.append(plots.Points(title, x, y))
    done = DONE[direction]
    figure = plots.scatter(clouds, plots.Axes(f"exact share {done}", f"estimated share {done}"))
    ends = [min(float(np.min(c.x)) for c in clouds), max(float(np.max(c.x)) for c in clouds)]
    line = go.Scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1, "dash": "dash"}, hoverinfo="skip")
    figure.add_trace(line.update(showlegend=False))
    caption = f"{direction.capitalize()}: every node of every grid; on the dashed line an estimate is right."
    return Figure(figure, caption)
