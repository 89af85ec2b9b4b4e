"""The blocks of the report that say where: heat maps by layer and position, and by head."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp_jax.experiments.patching.cells import BY_HEAD, BY_POSITION, TITLES
from interp_jax.experiments.patching.view import DONE, View
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results import model_plots, plots
from interp_jax.results.report import Block, Figure, Section

SLIGHT = 0.05  # below zero that is not worth a colour of its own
READ = {
    DENOISING: "1 is a node that is enough: put into the corrupted run, it brings the whole difference back",
    NOISING: "1 is a node that is needed: with that of the corrupted run in the clean one, the whole difference is lost",
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
        caption = f"{direction.capitalize()}: share of the effect that is {DONE[direction]}. {READ[direction]}."
        blocks.append(Figure(figure, caption))
    return blocks


def positions_text(view: View) -> str:
    """What stands along the position axis."""
    task = view.config.task
    if not task.file and task.name == "induction":
        return (
            "Positions are places that each pair has at columns of its own: A, the token that comes again; B, what followed it,"
            " which is the answer; END, the second A, where the answer is predicted."
        )
    return "Positions show the token that all clean prompts have there, or the name of a place in brackets or in its stead."


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
    return blocks


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
