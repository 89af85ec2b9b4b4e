"""Interactive plots of several panels side by side, in the house style: see `plots.py`."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Integer, Num
from plotly.subplots import make_subplots

from interp_jax.results.plot_style import (
    AREAS,
    GREY,
    GRID,
    INK,
    MARKS,
    TEMPLATE,
    WIDEST,
    Axes,
    axis,
    colour_bar,
    colour_limits,
    plain,
)
from interp_jax.results.plots import DASHES, Line, Vector

Panels = list[tuple[int, int]]  # row and column of each, from 1


def heatmap_grid(
    matrices: Sequence[Num[np.ndarray, "..."]], titles: Sequence[str], axes: Axes, value_title: str, columns: int = 5
) -> go.Figure:
    """Square matrices side by side on one shared colour scale, e.g. WᵀW at several sparsities; first row on top."""
    figure, places = _grid(titles, axes, columns)
    scale, low, high = colour_limits(np.concatenate([np.ravel(m) for m in matrices]))
    for matrix, (row, column) in zip(matrices, places, strict=True):
        hover = "%{y}, %{x}: %{z:.3g}<extra></extra>"
        figure.add_trace(go.Heatmap(z=matrix, coloraxis="coloraxis", hovertemplate=hover), row=row, col=column)
    figure.update_yaxes(autorange="reversed")
    colours = {"colorscale": scale, "cmin": low, "cmax": high, "colorbar": colour_bar(value_title)}
    return figure.update_layout(coloraxis=colours)


def arrows_grid(
    vectors: Sequence[Float[np.ndarray, "_ 2"]],
    titles: Sequence[str],
    axes: Axes,
    colours: Num[np.ndarray, " S"],
    colour_title: str,
    columns: int = 5,
) -> go.Figure:
    """Vectors in the plane as arms from the origin, side by side on one scale, with the unit circle behind them.

    Args:
      vectors: per panel [S, 2], e.g. the directions of S features in two hidden dimensions.
      titles: per panel.
      axes: titles of the two dimensions.
      colours: a value per vector, e.g. its importance.
      colour_title: what `colours` is.
      columns: panels in a row.
    """
    figure, places = _grid(titles, axes, columns)
    turn = np.linspace(0, 2 * np.pi, 73)
    circle = go.Scatter(
        x=np.cos(turn), y=np.sin(turn), mode="lines", line={"color": GRID, "width": 1}, hoverinfo="skip"
    )
    marker = {"color": colours, "coloraxis": "coloraxis", "size": 8, "line": {"color": "white", "width": 1}}
    for ends, (row, column) in zip(vectors, places, strict=True):
        arms = np.stack([np.zeros_like(ends), ends, np.full_like(ends, np.nan)], 1).reshape(-1, 2)  # NaN lifts the pen
        arm = {"mode": "lines", "line": {"color": GREY, "width": 1.5}, "hoverinfo": "skip"}
        names = [f"{i}" for i in range(len(ends))]
        tips = go.Scatter(x=ends[:, 0], y=ends[:, 1], mode="markers", marker=marker, text=names, hoverinfo="text")
        for trace in (circle, go.Scatter(x=arms[:, 0], y=arms[:, 1], **arm), tips):
            figure.add_trace(trace, row=row, col=column)
    reach = 1.15 * max(1.0, *(float(np.abs(ends).max(initial=0)) for ends in vectors))
    figure.update_xaxes(range=[-reach, reach]).update_yaxes(range=[-reach, reach])
    scale = {"colorscale": MARKS, "reversescale": True, "colorbar": colour_bar(colour_title)}
    return figure.update_layout(showlegend=False, coloraxis=scale)


def phase_diagram(
    panels: Sequence[tuple[str, Integer[np.ndarray, "Y X"]]],
    phases: Sequence[str],
    x: Vector,
    y: Vector,
    axes: Axes,
    boundaries: Sequence[Line] = (),
) -> go.Figure:
    """Maps of which phase holds where, side by side (measured, predicted), with boundary lines laid over each.

    Args:
      panels: title and, per cell, the index of its phase, or -1 where none can be told (left white).
      phases: names of at most five phases.
      x: centres of the columns, increasing, evenly spaced on the axis' scale.
      y: centres of the rows, likewise.
      axes: titles and scales.
      boundaries: curves in data units.
    """
    gap, panel = 90, min(400, (WIDEST - 110) // len(panels) - 90)
    plot_width = panel * len(panels) + gap * (len(panels) - 1)
    titles = [plain(title) for title, _ in panels]
    figure = make_subplots(1, len(panels), subplot_titles=titles, horizontal_spacing=gap / plot_width)
    x_edges, y_edges = _edges(x, axes.x_scale), _edges(y, axes.y_scale)
    figure.update_annotations(font_size=14, yshift=4)
    n = len(phases)
    steps = [(edge, AREAS[i]) for i in range(n) for edge in (i / n, (i + 1) / n)]
    for column, (_, cells) in enumerate(panels, 1):
        area = {"colorscale": steps, "zmin": -0.5, "zmax": n - 0.5, "showscale": False, "hoverinfo": "skip"}
        cells = np.where(cells < 0, np.nan, cells)
        figure.add_trace(go.Heatmap(z=cells, x=x_edges, y=y_edges, **area), row=1, col=column)
        for i, line in enumerate(boundaries):
            style = {"color": INK, "width": 2.5, "dash": DASHES[i % len(DASHES)]}
            curve = go.Scatter(x=line.x, y=line.y, name=plain(line.name), mode="lines", line=style)
            figure.add_trace(curve.update(showlegend=column == 1), row=1, col=column)
    for name, colour in zip(phases, AREAS, strict=False):
        square = {"symbol": "square", "size": 14, "color": colour}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=plain(name), marker=square), row=1, col=1)
    figure.update_xaxes(**axis(axes.x, axes.x_scale, x_edges[0], x_edges[-1]), showgrid=False)
    figure.update_yaxes(**axis(axes.y, axes.y_scale, y_edges[0], y_edges[-1]), showgrid=False)
    margin, legend = {"l": 80, "r": 30, "t": 40, "b": 110}, {"y": -70 / panel, "yanchor": "top"}
    return figure.update_layout(
        template=TEMPLATE, width=plot_width + 110, height=panel + 150, margin=margin, legend=legend
    )


def _grid(titles: Sequence[str], axes: Axes, columns: int) -> tuple[go.Figure, Panels]:
    """Square panels of one size, and their places; only the outer ones have titles on their axes."""
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    left, right, top, bottom, gap, row_gap = 40, 100, 32, 40, 14, 36
    panel = min(180, (WIDEST - left - right - gap * (columns - 1)) // columns)
    plot_width, plot_height = panel * columns + gap * (columns - 1), panel * rows + row_gap * (rows - 1)
    spacing = {"horizontal_spacing": gap / plot_width, "vertical_spacing": row_gap / plot_height}
    figure = make_subplots(rows, columns, subplot_titles=[plain(title) for title in titles], **spacing)
    figure.update_annotations(font_size=13, yshift=3)
    figure.update_layout(template=TEMPLATE)
    figure.update_xaxes(showticklabels=False, ticks="", showgrid=False, mirror=True)
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, mirror=True)
    places = [(i // columns + 1, i % columns + 1) for i in range(len(titles))]
    for i, (row, column) in enumerate(places):
        if i + columns >= len(titles):
            figure.update_xaxes(title_text=plain(axes.x), title_standoff=4, title_font_size=12, row=row, col=column)
        if column == 1:
            figure.update_yaxes(title_text=plain(axes.y), title_standoff=4, title_font_size=12, row=row, col=column)
    for row, column in [(rows, c) for c in range(len(titles) % columns + 1, columns + 1) if len(titles) % columns]:
        figure.update_xaxes(visible=False, row=row, col=column).update_yaxes(visible=False, row=row, col=column)
    margin = {"l": left, "r": right, "t": top, "b": bottom}
    size = {"width": plot_width + left + right, "height": plot_height + top + bottom}
    return figure.update_layout(margin=margin, **size), places


def _edges(centres: Vector, scale: str) -> Float[np.ndarray, "_"]:
    """Borders of cells around centres that are evenly spaced on the axis' scale."""
    at = np.log(centres) if scale == "log" else np.asarray(centres, np.float64)
    half = np.diff(at) / 2
    edges = np.r_[at[0] - half[0], at[:-1] + half, at[-1] + half[-1]]
    return np.exp(edges) if scale == "log" else edges
