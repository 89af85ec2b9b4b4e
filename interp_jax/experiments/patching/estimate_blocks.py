"""The blocks of the report about estimates: how far attribution agrees with exact patching, and what it may have missed."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from interp_jax.experiments.patching.causes import METHODS
from interp_jax.experiments.patching.cells import BY_HEAD, BY_POSITION, TITLES, WHOLE
from interp_jax.experiments.patching.listing import plain
from interp_jax.experiments.patching.sources import RUN
from interp_jax.experiments.patching.view import DONE, SIZES, View
from interp_jax.patching.attribution.agreement import Agreement, agreement
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock, Text
from interp_jax.results.plot_style import GREY
from interp_jax.results.tables import Table

LABELS = {
    "estimate": "AtP",
    "integrated": "integrated gradients",
    "softmax": "exact softmax",
    "star": "AtP*",
    "relevance": "RelP",
}
DATA = ("slope", "r_squared", "spearman")  # of an agreement, for programs
HEADING = "How far estimates agree"
TEXT = (
    "Attribution patching (AtP) takes every node's effect from one backward pass: `(source - base) · gradient`. It is exact"
    " where the metric is linear in the node, and blind where a softmax is saturated, as attention is that looks at one place."
    " Integrated gradients average the gradient along the path between the two runs. For queries and keys the softmax can"
    " be computed again, exactly. Relevance propagation (RelP) holds what norms divide by and where heads look: so queries and"
    " keys have effect 0 by it."
    "\n\nAtP* computes the softmax exactly too, and drops the gradient through each layer in turn, so that opposite effects do"
    " not hide each other. It gives sizes without a sign, which are compared with the sizes of exact effects. Of few layers"
    " each is much of the model: AtP* is then too small."
    "\n\nSlope is that of the estimate against the exact effect: 1 is right, below 1 is too small. A dash stands where all"
    " nodes are alike."
)
BLIND = (
    " The KL divergence is smallest at the clean run, so that its gradient there is 0: of noising, integrated gradients alone"
    " can say anything."
)


def estimate_blocks(view: View) -> list[Block]:
    """Agreement in numbers, and node by node."""
    asked = methods_of(view)
    if not asked[DENOISING]:
        return [Section(HEADING, why_none(view))]
    blind = BLIND if asked[NOISING] == ["integrated"] else ""
    return [
        Section(HEADING, TEXT + blind + completeness(view)),
        *(TableBlock(agreement_table(view, direction)) for direction in DIRECTIONS),
        *(scatter_block(view, direction) for direction in DIRECTIONS),
        *missed_blocks(view),
    ]


def why_none(view: View) -> str:
    """Why nothing is estimated."""
    if view.config.source != RUN:
        return "Estimates are of the other run's activations, which are not put in here: there are none."
    return f"The {view.unit} has no gradient: nothing can be estimated."


def methods_of(view: View) -> dict[str, list[str]]:
    """The methods that were asked, by direction."""
    return {d: [m for m in METHODS if any(name.startswith(f"{m}.") for name in view.effects[d])] for d in DIRECTIONS}


def completeness(view: View) -> str:
    """What integrated gradients lack."""
    sums = [f"{view.effects[d]['integrated.whole'].mean() / view.total:.3g} in {d}" for d in DIRECTIONS]
    return (
        f" Integrated gradients take {METHODS['integrated'].steps} steps; their sum at the embeddings should be 1, the whole"
        f" effect, and is {' and '.join(sums)}."
    )


def grids_of(view: View) -> list[str]:
    """The grids that have both exact and estimated effects, and several nodes."""
    named = (*BY_POSITION, *BY_HEAD, *WHOLE)
    return [name for name in named if view.has(name) and view.shares(DENOISING, name).size > 1]


def agreement_table(view: View, direction: str) -> Table:
    """A row for each grid, a column for each method: slope, and R² in brackets."""
    asked = methods_of(view)[direction]
    rows = []
    for name in grids_of(view):
        found = [agreement_of(view, direction, name, method) for method in asked]
        what = TITLES[name].removesuffix(" before the layer")
        rows.append((f"{what} ({view.shares(direction, name).size})", *map(agreement_text, found)))
    sizes = (
        " Those of AtP* are means of sizes, and those of a node's several positions are added up, which is too much where they"
        " cancel."
        if "star" in asked
        else ""
    )
    caption = (
        f"{direction.capitalize()}: slope, and in brackets R², of estimated against exact effects over the nodes of each grid,"
        f" whose number is in brackets too. Effects are means over pairs.{sizes}"
    )
    return Table(("grid", *(LABELS[method] for method in asked)), rows, caption)


def agreement_text(found: Agreement | None) -> str:
    """Slope and R², for people."""
    if found is None or not np.isfinite(found.slope):
        return "–"
    return f"{plain(found.slope):.3g}" + (f" ({found.r_squared:.2f})" if np.isfinite(found.r_squared) else "")


def agreement_of(view: View, direction: str, name: str, method: str) -> Agreement | None:
    """Of mean effects, or of mean sizes, as shares; None where a method says nothing of a grid."""
    if not view.has(f"{method}.{name}", direction):
        return None
    sizes = f"{method}.".startswith(SIZES)
    exact, estimate = (view.effects[direction][what] / view.total for what in (name, f"{method}.{name}"))
    exact, estimate = (np.abs(x).mean(-1) if sizes else x.mean(-1) for x in (exact, estimate))
    return agreement(estimate, exact, k=min(10, exact.size))


def agreement_data(view: View) -> dict[str, Any]:
    """All of it for programs: slope, R² and Spearman's rank correlation by direction, grid and method."""
    found: dict[str, Any] = {}
    for direction, asked in methods_of(view).items():
        if not asked:
            continue
        found[direction] = {}
        for name in grids_of(view):
            by = {LABELS[method]: agreement_of(view, direction, name, method) for method in asked}
            parts = {label: one._asdict() for label, one in by.items() if one is not None}
            found[direction][name] = {label: {part: one[part] for part in DATA} for label, one in parts.items()}
    return found


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
        "What AtP may have missed among heads' outputs at every position, denoising and noising, as shares of the effect. The"
        " bound holds with 95% confidence where the ways by which a node works do not oppose each other; it allows for nodes of"
        " a set that overwrite what others do through them."
    )
    named = (
        " Positions are the places of the plots, and besides them the other columns of each pair, in order."
        if len(view.about["positions"]) < view.about["columns"]
        else ""
    )
    text = (
        "A head's output at one position is a node of which there are too many to patch each; so only those with the largest"
        f" estimates are. Of all others, {view.config.missed.sets} random sets are patched at once, and how sets with a node"
        f" differ from those without it bounds what any of them does alone (Kramár et al. 2024).{named}"
    )
    return [Text(text), TableBlock(Table(columns, rows, caption))]


def scatter_block(view: View, direction: str) -> Figure:
    """Every node: its exact effect, and what each method that gives signs estimates; rings where the softmax is exact."""
    signed = [method for method in methods_of(view)[direction] if not f"{method}.".startswith(SIZES)]
    clouds = []
    for method in signed:
        names = [name for name in grids_of(view) if view.has(f"{method}.{name}", direction)]
        x, y = (
            np.concatenate([view.shares(direction, f"{of}{name}").ravel() for name in names])
            for of in ("", f"{method}.")
        )
        clouds.append(plots.Points(LABELS[method], x, y))
    done = DONE[direction]
    figure = plots.scatter(clouds, plots.Axes(f"exact share {done}", f"estimated share {done}"))
    for method, trace in zip(signed, figure.data, strict=True):
        if method == "softmax":
            trace.marker.update(symbol="circle-open", size=10)
    ends = [min(float(np.min(c.x)) for c in clouds), max(float(np.max(c.x)) for c in clouds)]
    line = go.Scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1, "dash": "dash"}, hoverinfo="skip")
    figure.add_trace(line.update(showlegend=False))
    caption = (
        f"{direction.capitalize()}: every node of every grid, by each method that gives signs; on the dashed line an estimate"
        " is right. The exact softmax is of queries and keys."
    )
    return Figure(figure, caption)
