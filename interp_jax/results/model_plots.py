"""Plots of what happens inside a language model: contributions to a number, many matrices with labels, spectra.

Pure functions from arrays to plotly figures, in the house style of `plots.py`; tokens are shown as they are, with their blanks
made visible, cut where they are long. What is left out is said to be so (`contributions`, `pattern_grid`). Tokens in cells are
drawn by `token_plots.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Num
from plotly.subplots import make_subplots

from interp_jax.results.plot_style import (
    CHARACTER,
    COLOURS,
    GREY,
    INK,
    LEAST,
    TEMPLATE,
    WIDEST,
    Axes,
    Number,
    cell_size,
    colour_axis,
    colour_limits,
    label_ticks,
    plain,
    shorten,
    sized,
)

LABEL_TEXT = 14  # characters of a token on an axis
ADD, TAKE = COLOURS[0], COLOURS[1]  # contributions above and below zero


class Rest(NamedTuple):
    """What is too small to be given one by one: how many contributions, and their sum."""

    count: int = 0
    total: float = 0.0


def contributions(
    names: Sequence[str],
    values: Num[np.ndarray, " N"],
    value_title: str,
    most: int = 14,
    rest: Rest = Rest(),  # noqa: B008
) -> go.Figure:
    """Signed contributions to a number as bars: the largest by magnitude, all others in one bar, and their sum.

    Args:
      names: of the contributions.
      values: theirs.
      value_title: what they add up to, with its unit.
      most: bars that are shown one by one.
      rest: contributions that are not among `values`.
    """
    order = np.argsort(-np.abs(values), kind="stable")
    shown, others = order[:most], order[most:]
    bars = [(plain(shorten(names[i], 40)), float(values[i]), ADD if values[i] >= 0 else TAKE) for i in shown]
    count = len(others) + rest.count
    if count:
        bars.append((f"{count:,} others together", float(values[others].sum()) + rest.total, GREY))
    bars.append(("sum", float(values.sum()) + rest.total, INK))
    text, amounts, colours = zip(*bars, strict=True)
    trace = go.Bar(x=amounts, y=list(range(len(bars))), orientation="h", marker_color=colours, width=0.7)
    trace.update(text=[signed(v) for v in amounts], textposition="outside", cliponaxis=False, textfont_size=12)
    figure = go.Figure(trace.update(hovertemplate="%{y}: %{x:+.4g}<extra></extra>"), layout={"template": TEMPLATE})
    low, high = min(0.0, *amounts), max(0.0, *amounts)
    room = 0.12 * (high - low) or 1.0  # for the numbers at the ends of the bars
    figure.update_xaxes(title_text=plain(value_title), range=[low - room * (low < 0), high + room], zeroline=True)
    figure.update_xaxes(zerolinecolor=INK, zerolinewidth=1, showline=False)
    ticks = {"tickmode": "array", "tickvals": list(range(len(bars))), "ticktext": list(text)}
    figure.update_yaxes(
        **ticks, range=[len(bars) - 0.5, -0.5], showgrid=False, showline=False, tickcolor="white", ticklen=6
    )
    left = 30 + round(7 * max(map(len, text)))
    return sized(figure, 560, 24 * len(bars), (left, 60, 12, 56))


def matrix_grid(
    matrices: Sequence[Num[np.ndarray, "_ _"]],
    titles: Sequence[str],
    x: Sequence[str],
    y: Sequence[str],
    axes: Axes,
    value_title: str,
    limits: tuple[float, float] | None = None,
    hover: Sequence[Sequence[Sequence[str]]] | None = None,
) -> go.Figure:
    """Matrices of one shape, side by side on one colour scale; rows and columns are labelled once, at the edges.

    Args:
      matrices: each [Y, X], first row on top.
      titles: one each.
      x: labels of the columns; not all are written where they are too dense to be read.
      y: of the rows, likewise.
      axes: what columns and rows are.
      value_title: what the numbers are.
      limits: values at the ends of the colour scale, which has two colours where the first is negative; by default those that
        occur.
      hover: what is said of each cell, where it is more than its value.
    """
    x, y = ([shorten(text, LABEL_TEXT) for text in labels] for labels in (x, y))
    figure, columns, panel_height = _panels(titles, x, y)
    told = "%{y} → %{x}: " + ("%{z:.3g}" if hover is None else "%{text}") + "<extra></extra>"
    style = {"showgrid": False, "mirror": True, "ticklen": 2, "title_standoff": 8, "title_font_size": 12}
    for i in range(-(-len(matrices) // columns) * columns):
        place, lowest, first = _place(i, columns), i + columns >= len(matrices), i % columns == 0
        if i < len(matrices):
            text = None if hover is None else [[plain(cell) for cell in row] for row in hover[i]]
            figure.add_trace(go.Heatmap(z=matrices[i], text=text, coloraxis="coloraxis", hovertemplate=told), **place)
        seen = {"visible": i < len(matrices), **style, **place}
        figure.update_xaxes(title_text=plain(axes.x) if lowest else "", showticklabels=lowest, **seen)
        figure.update_yaxes(title_text=plain(axes.y) if first else "", showticklabels=first, **seen)
    figure.update_xaxes(**label_ticks(x), tickangle=-90).update_yaxes(**label_ticks(y), range=[len(y) - 0.5, -0.5])
    scale, low, high = colour_limits(
        np.concatenate([np.ravel(m) for m in matrices]) if limits is None else np.array(limits)
    )
    return figure.update_layout(coloraxis=colour_axis(scale, low, high, value_title, panel_height))


def pattern_grid(
    patterns: Float[np.ndarray, "N Q K"],
    titles: Sequence[str],
    tokens: Sequence[str],
    most: int = 16,
    of: int | None = None,
) -> go.Figure:
    """Attention patterns of heads over the same tokens, queries downwards; says how many heads are left out.

    Args:
      patterns: of the heads to show, in order.
      titles: one each.
      tokens: of the positions.
      most: heads that are drawn at most.
      of: how many heads there are, if more than are given.
    """
    shown, total = min(most, len(patterns)), len(patterns) if of is None else of
    axes = Axes("looked at (key)", "looks (query)")
    figure = matrix_grid(list(patterns[:shown]), titles[:shown], tokens, tokens, axes, "attention", (0.0, 1.0))
    if shown < total:
        note = {"text": f"{shown} of {total:,} heads; {total - shown:,} are not shown", "showarrow": False}
        place = {"x": 0, "y": 0, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(**note, **place, yshift=-figure.layout.margin.b - 22, font={"size": 12, "color": GREY})
        figure.update_layout(margin_b=figure.layout.margin.b + 24, height=figure.layout.height + 24)
    return figure


def spectra(
    values: Sequence[Float[np.ndarray, "N _"]], titles: Sequence[str], names: Sequence[str], value_title: str
) -> go.Figure:
    """Singular values in falling order, a panel for each kind of matrix, a curve for each matrix of N in the same colours.

    Args:
      values: per panel.
      titles: of the panels.
      names: of the N matrices.
      value_title: what the values are, with their unit.
    """
    left, right, gap, height = 64, 60 + 7 * max(map(len, names)), 60, 260
    width = min(WIDEST - left - right, 420 * len(values))
    spacing = {"horizontal_spacing": gap / width}
    figure = make_subplots(1, len(values), subplot_titles=[plain(title) for title in titles], **spacing)
    for column, matrix in enumerate(values, 1):
        places = np.arange(1, matrix.shape[1] + 1)
        for i, (name, curve) in enumerate(zip(names, matrix, strict=True)):
            style = {"color": COLOURS[i % len(COLOURS)], "width": 2, "dash": "solid" if i < len(COLOURS) else "dash"}
            mode = "lines+markers" if len(places) <= 40 else "lines"
            trace = go.Scatter(x=places, y=curve, name=plain(name), mode=mode, line=style, marker_size=4)
            figure.add_trace(trace.update(legendgroup=str(i), showlegend=column == 1), row=1, col=column)
        figure.update_yaxes(range=[0, 1.05 * float(matrix.max()) or 1.0], row=1, col=column)
    figure.update_annotations(font_size=13, yshift=2)
    figure.update_xaxes(title_text="place", range=[0.5, max(m.shape[1] for m in values) + 0.5])
    figure.update_yaxes(title_text=plain(value_title), row=1, col=1)
    sized(figure, width, height, (left, right, 30, 56))
    return figure.update_layout(showlegend=True, legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"})


def signed(value: Number) -> str:
    """A number with its sign; 0 where it is none to speak of."""
    return "0" if abs(value) < 5e-7 else f"{value:+.3g}"


def _panels(titles: Sequence[str], x: Sequence[str], y: Sequence[str]) -> tuple[go.Figure, int, int]:
    """Empty panels for matrices with these labels, as many in a row as the page is wide; columns; pixels of a height."""
    left, bottom = (40 + round(CHARACTER * max(map(len, labels))) for labels in (y, x))
    right, top, gap, row_gap, cell = 100, 30, 16, 40, cell_size(max(len(x), len(y)))
    panel_height = max(round(cell * len(y)), LEAST)
    panel_width = max(round(cell * len(x)), LEAST, 7 * max(map(len, titles)))
    columns = max(1, min((WIDEST - left - right + gap) // (panel_width + gap), len(titles)))
    rows = -(-len(titles) // columns)
    width, height = panel_width * columns + gap * (columns - 1), panel_height * rows + row_gap * (rows - 1)
    spacing = {"horizontal_spacing": gap / width, "vertical_spacing": row_gap / height}
    figure = make_subplots(rows, columns, subplot_titles=[plain(title) for title in titles], **spacing)
    figure.update_annotations(font_size=13, yshift=2)
    return sized(figure, width, height, (left, right, top, bottom)), columns, panel_height


def _place(i: int, columns: int) -> dict[str, int]:
    return {"row": i // columns + 1, "col": i % columns + 1}
