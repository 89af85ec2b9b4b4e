"""The blocks of the report about estimates: how far attribution agrees with exact patching, and what it may have missed."""

import numpy as np
import plotly.graph_objects as go

from interp_jax.experiments.patching.cells import BY_HEAD, BY_POSITION, TITLES, WHOLE
from interp_jax.experiments.patching.ranking import plain
from interp_jax.experiments.patching.view import DONE, SIZES, View
from interp_jax.patching.attribution.agreement import Agreement, agreement
from interp_jax.patching.prompts import DIRECTIONS
from interp_jax.results import plots
from interp_jax.results.plot_style import GREY
from interp_jax.results.report import Block, Figure, Section, TableBlock, Text
from interp_jax.results.tables import Table

METHODS = {"estimate": "AtP", "softmax": "exact softmax", "star": "AtP*"}


def estimate_blocks(view: View) -> list[Block]:
    """Agreement in numbers, and node by node."""
    text = (
        "Attribution patching (AtP) takes every node's effect from one backward pass: `(source - base) · gradient`. It is exact"
        " where the metric is linear in the node, and blind where a softmax is saturated, as attention is that looks at one"
        " place. For queries and keys the softmax is therefore computed again, exactly."
        "\n\nAtP* does that and drops the gradient through each layer in turn, so that opposite effects do not hide each other."
        " It gives sizes without a sign, which are compared with the sizes of exact effects. Of few layers each is much"
        " of the model: AtP* is then too small."
        "\n\nSlope is that of the estimate against the exact effect: 1 is right, below 1 is too small. A dash stands where all"
        " nodes are alike."
    )
    return [
        Section("How far estimates agree", text),
        TableBlock(agreement_table(view)),
        *(scatter_block(view, direction) for direction in DIRECTIONS),
        *missed_blocks(view),
    ]


def agreement_table(view: View) -> Table:
    """A row for each grid and method."""
    rows = []
    for name in (*BY_POSITION, *BY_HEAD, *WHOLE):
        for method, title in METHODS.items():
            if view.has(f"{method}.{name}") and (size := view.shares(DIRECTIONS[0], name).size) > 1:
                found = [agreement_of(view, direction, name, method) for direction in DIRECTIONS]
                numbers = [plain(x) for one in found for x in (one.slope, one.r_squared, one.spearman)]
                what = TITLES[name].removesuffix(" before the layer")
                rows.append((f"{what} ({size})", title, *numbers))
    columns = ("what", "method", *(name for d in DIRECTIONS for name in (f"{d}: slope", "R²", "Spearman")))
    caption = (
        "Agreement of estimated with exact effects over the nodes of each grid, whose number is in brackets: denoising on the"
        " left, noising on the right. Effects are means over pairs; with AtP*, means of sizes, and those of a node's several"
        " positions are added up, which is too much where they cancel."
    )
    return Table(columns, rows, caption)


def agreement_of(view: View, direction: str, name: str, method: str) -> Agreement:
    """Of mean effects, or of mean sizes, as shares."""
    sizes = f"{method}.".startswith(SIZES)
    exact, estimate = (view.effects[direction][what] / view.total for what in (name, f"{method}.{name}"))
    exact, estimate = (np.abs(x).mean(-1) if sizes else x.mean(-1) for x in (exact, estimate))
    return agreement(estimate, exact, k=min(10, exact.size))


def missed_blocks(view: View) -> list[Block]:
    """What may have been missed."""
    if not view.missed:
        return []
    rows = []
    for direction in DIRECTIONS:
        runs, total = view.missed[direction], abs(view.total)
        strongest, bound = (max(getattr(run, part) for run in runs) / total for part in ("strongest", "bound"))
        rows.append((direction, int(runs[0].nodes), int(runs[0].checked), plain(strongest), plain(bound)))
    columns = ("", "nodes", "checked one by one", "strongest of these", "bound on any other")
    caption = (
        "What AtP may have missed among heads' outputs by position, denoising and noising, as shares of the effect. The bound"
        " holds with 95% confidence where the ways by which a node works do not oppose each other; it allows for nodes of a set"
        " that overwrite what others do through them."
    )
    text = (
        "A head's output at one position is a node of which there are too many to patch each; so only those with the largest"
        f" estimates are. Of all others, {view.config.missed.sets} random sets are patched at once, and how sets with a node"
        " differ from those without it bounds what any of them does alone (Kramár et al. 2024)."
    )
    return [Text(text), TableBlock(Table(columns, rows, caption))]


def scatter_block(view: View, direction: str) -> Figure:
    """Every node: its exact effect, and the estimate; rings where the softmax is exact."""
    signed = [method for method in METHODS if not f"{method}.".startswith(SIZES)]
    known = [(method, name) for method in signed for name in (*BY_POSITION, *BY_HEAD) if view.has(f"{method}.{name}")]
    clouds = []
    for method, name in known:
        title = TITLES[name] + (", exact softmax" if method == "softmax" else "")
        x, y = (view.shares(direction, what).ravel() for what in (name, f"{method}.{name}"))
        clouds.append(plots.Points(title, x, y))
    done = DONE[direction]
    figure = plots.scatter(clouds, plots.Axes(f"exact share {done}", f"estimated share {done}"))
    drawn = dict(zip(known, figure.data, strict=True))
    for (method, name), trace in drawn.items():
        if method == "softmax":
            trace.marker.update(color=drawn["estimate", name].marker.color, symbol="circle-open", size=10)
    ends = [min(float(np.min(c.x)) for c in clouds), max(float(np.max(c.x)) for c in clouds)]
    line = go.Scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1, "dash": "dash"}, hoverinfo="skip")
    figure.add_trace(line.update(showlegend=False))
    caption = f"{direction.capitalize()}: every node of every grid; on the dashed line an estimate is right."
    return Figure(figure, caption)
