"""The blocks of the report that say where: heat maps by layer and position, and by head, with tables of what is strongest."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp_jax.experiments.patching.cells import BY_HEAD, BY_POSITION, TITLES
from interp_jax.experiments.patching.corruption import RESAMPLE
from interp_jax.experiments.patching.listing import Cells, listed, strongest
from interp_jax.experiments.patching.routes import INPUTS
from interp_jax.experiments.patching.sources import MEAN, RUN, ZERO
from interp_jax.experiments.patching.view import DONE, View
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results import model_plots, plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock

SHORT = {"resid_pre": "stream", "attn_out": "attention", "mlp_out": "MLP"}
SLIGHT = 0.05  # below zero that is not worth a colour of its own
READ = {
    (DENOISING, RUN): "1 is a node that is enough: put into the corrupted run, it brings the whole difference back",
    (
        NOISING,
        RUN,
    ): "1 is a node that is needed: with that of the corrupted run in the clean one, the whole difference is lost",
    (DENOISING, MEAN): "1 is a node whose mean over the other clean runs, put into the corrupted one, brings all back",
    (
        NOISING,
        MEAN,
    ): "1 is a node without which the clean run loses all: it has the mean of the other corrupted runs there",
    (
        DENOISING,
        ZERO,
    ): "1 is a node without which, with 0 in its place, the corrupted run does what the clean one does",
    (NOISING, ZERO): "1 is a node without which, with 0 in its place, the clean run loses the whole difference",
}


def position_blocks(view: View) -> list[Block]:
    """Layer by position."""
    names = [name for name in BY_POSITION if view.has(name)]
    labels = view.about["positions"]
    layers = [str(layer) for layer in range(view.n_layers)]
    blocks: list[Block] = [
        Section(
            "Where: layers and positions",
            "One activation at one layer and one position is patched, all else is computed anew. The stream shows where the"
            " difference is carried, from where the prompts differ to the last position; what attention and MLPs add shows"
            " where it is moved and made. A stream that does nothing at a layer says that the information is elsewhere by"
            f" then. {positions_text(view)}",
        )
    ]
    reach = reach_of(view, names)
    for direction in DIRECTIONS:
        figure = share_grid(
            [view.shares(direction, name) for name in names],
            [TITLES[name] for name in names],
            labels,
            layers,
            plots.Axes("position", "layer"),
            direction,
            reach,
        )
        read = READ[direction, view.config.source]
        caption = f"{direction.capitalize()}: share of the effect that is {DONE[direction]}. {read}."
        blocks.append(Figure(figure, caption))
    cells = position_cells(view, names)
    chosen = strongest(view, cells, view.config.show.nodes)
    what = f"The {len(chosen)} strongest of {len(cells.names):,} places."
    return [*blocks, TableBlock(listed(view, cells, chosen, what))]


def position_cells(view: View, names: Sequence[str]) -> Cells:
    """Every cell of these maps."""
    labels, layers = view.about["positions"], range(view.n_layers)
    cells = [(f"{SHORT[name]} {layer}", label) for name in names for layer in layers for label in labels]
    flat = lambda d: np.concatenate([view.effects[d][name].reshape(-1, len(view.clean)) for name in names])
    return Cells(("layer", "position"), cells, {d: flat(d) for d in DIRECTIONS})


def positions_text(view: View) -> str:
    """What stands along the position axis."""
    task = view.config.task
    own = " They are those of the clean prompt." if task.corruption == RESAMPLE else ""
    if not task.file and task.name == "induction":
        return (
            "Positions are places that each pair has at columns of its own: A, the token that comes again; B, what followed it,"
            f" which is the answer; END, the second A, where the answer is predicted.{own}"
        )
    named = "Positions show the token that all clean prompts have there, or the name of a place in brackets or in its stead."
    return named + own


def head_blocks(view: View) -> list[Block]:
    """Layer by head."""
    blocks: list[Block] = [
        Section(
            "Which heads, and by what they read",
            "A head's output z, or its queries, keys or values, at all positions at once. A head with an effect by its keys"
            " looks elsewhere because of what other positions say of themselves; by its queries, because of what it asks; by"
            " its values, it moves something else. Effects of z include what later layers make of them.",
        )
    ]
    reach = reach_of(view, list(BY_HEAD))
    for direction in DIRECTIONS:
        for names in same_shape(view, direction):
            shares = [view.shares(direction, name) for name in names]
            x, y = ([str(i) for i in range(n)] for n in shares[0].shape[::-1])
            unit = "head" if len(x) == view.n_heads else "key/value head"
            titles, axes = [TITLES[name] for name in names], plots.Axes(unit, "layer")
            figure = share_grid(shares, titles, x, y, axes, direction, reach)
            blocks.append(
                Figure(figure, f"{direction.capitalize()}: share of the effect that is {DONE[direction]}, by {unit}.")
            )
    cells = input_cells(view)
    chosen = strongest(view, cells, view.config.show.nodes)
    what = f"The {len(chosen)} strongest of {len(cells.names):,} inputs of heads; heads' outputs are ranked below."
    return [*blocks, TableBlock(listed(view, cells, chosen, what))]


def input_cells(view: View) -> Cells:
    """The queries, keys and values of every head."""
    cells: list[tuple[str, ...]] = []
    for name in INPUTS:
        units = view.effects[DENOISING][name].shape[1]
        everyone = range(view.n_layers * units)
        heads = [view.described(i) if units == view.n_heads else reader_name(view, i, units) for i in everyone]
        cells += [(f"{TITLES[name]} of {head}",) for head in heads]
    flat = lambda d: np.concatenate([view.effects[d][name].reshape(-1, len(view.clean)) for name in INPUTS])
    return Cells(("input",), cells, {d: flat(d) for d in DIRECTIONS})


def reader_name(view: View, unit: int, units: int) -> str:
    """A head, l H + h; or a key/value head, l U + u, where layers have fewer of them, U."""
    return view.node_name(unit) if units == view.n_heads else f"key/value head {unit // units}.{unit % units}"


def same_shape(view: View, direction: str) -> list[list[str]]:
    """The names of `BY_HEAD` in figures of one shape: keys and values may have fewer heads."""
    shape = lambda name: view.effects[direction][name].shape
    shapes = list(dict.fromkeys(shape(name) for name in BY_HEAD))
    return [[name for name in BY_HEAD if shape(name) == each] for each in shapes]


def reach_of(view: View, names: list[str]) -> tuple[float, float]:
    """One colour scale for both directions: from 0, or symmetric where something is well below it."""
    values = np.concatenate([view.shares(direction, name).ravel() for direction in DIRECTIONS for name in names])
    low, high = float(values.min()), float(np.abs(values).max())
    return (-high, high) if low < -SLIGHT * high else (0.0, high or 1.0)


def share_grid(
    shares: list[Float[np.ndarray, "Y X"]],
    titles: list[str],
    x: list[str],
    y: list[str],
    axes: plots.Axes,
    direction: str,
    reach: tuple[float, float],
) -> go.Figure:
    """Matrices of shares, blue where the effect goes with the answer and red where it goes against it."""
    figure = model_plots.matrix_grid(shares, titles, x, y, axes, f"share {DONE[direction]}", reach)
    return figure.update_layout(coloraxis_colorscale="RdBu" if reach[0] < 0 else "Blues")
