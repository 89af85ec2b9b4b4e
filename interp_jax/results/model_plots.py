"""Plots of what happens inside a language model: tokens in cells, contributions to a number, many matrices with labels.

Pure functions from arrays to plotly figures, in the house style of `plots.py`; tokens are shown as they are, with their blanks
made visible, cut where they are long. Cells keep a size in which their text can be read: what is wider than a page is wrapped
(`token_grid`) or left out and said to be so (`contributions`, `pattern_grid`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Num
from plotly.subplots import make_subplots

from interp_jax.results.plot_style import (
    COLOURS,
    GREY,
    INK,
    ONE_SIGN,
    TEMPLATE,
    WIDEST,
    Axes,
    Number,
    colour_bar,
    colour_limits,
    label,
    plain,
)

CELL_TEXT = 8  # characters of a token in a cell
LABEL_TEXT = 14  # characters of a token on an axis
CHARACTER = 6.6  # pixels that one of a label takes, on average, at size 11
NARROWEST, ROW = 30, 22  # pixels of a cell with text
LEAST = 120  # pixels of a matrix, for the title of its colour bar to fit
ADD, TAKE = COLOURS[0], COLOURS[1]  # contributions above and below zero


class Rest(NamedTuple):
    """What is too small to be given one by one: how many contributions, and their sum."""

    count: int = 0
    total: float = 0.0


def token_grid(
    tokens: Sequence[Sequence[str]],
    values: Float[np.ndarray, "Y X"],
    x: Sequence[str],
    y: Sequence[str],
    axes: Axes,
    value_title: str,
    hover: Sequence[Sequence[str]] | None = None,
) -> go.Figure:
    """A token in every cell on a colour from 0 to 1, first row on top; many columns go on below, as lines of a text do.

    Args:
      tokens: what stands in the cells, Y rows of X.
      values: between 0 and 1, e.g. the tokens' probabilities.
      x: a token above each column, e.g. the model's input.
      y: names of the rows, e.g. layers.
      axes: what columns and rows are.
      value_title: what `values` are.
      hover: more about each cell, lines separated by newlines; by default its value.
    """
    n_rows, n_columns = values.shape
    longest = max(len(shorten(text, CELL_TEXT)) for text in [*x, *(text for row in tokens for text in row)])
    column = max(NARROWEST, round(6.2 * longest) + 6)
    left, right, top = 40 + round(CHARACTER * max(map(len, y))), 100, 70
    n_bands = -(-n_columns // ((WIDEST - left - right) // column))
    width = -(-n_columns // n_bands)  # bands of nearly equal length
    band, gap = ROW * n_rows, 76
    height = band * n_bands + gap * (n_bands - 1)
    figure = make_subplots(n_bands, 1, vertical_spacing=gap / height if n_bands > 1 else 0)
    for i in range(n_bands):
        columns = range(i * width, min((i + 1) * width, n_columns))
        figure.add_trace(_cells(tokens, values, hover, columns), row=i + 1, col=1)
        ticks = _ticks([shorten(x[c], CELL_TEXT) for c in columns]) | {"tickangle": -45, "side": "top"}
        figure.update_xaxes(**ticks, range=[-0.5, width - 0.5], row=i + 1, col=1)
    bare = {"showgrid": False, "showline": False, "ticklen": 2}
    figure.update_xaxes(**bare).update_xaxes(title_text=plain(axes.x), title_font_size=13, row=1, col=1)
    figure.update_yaxes(**_ticks(y, plain), **bare, range=[n_rows - 0.5, -0.5])
    figure.update_yaxes(title_text=plain(axes.y), row=1, col=1)
    figure.update_layout(coloraxis=_colours(ONE_SIGN, 0.0, 1.0, value_title, max(band, LEAST)))
    return _size(figure, width * column, height, (left, right, top, 24 + max(0, LEAST - height)))


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
    return _size(figure, 560, 24 * len(bars), (left, 60, 12, 56))


def matrix_grid(
    matrices: Sequence[Num[np.ndarray, "_ _"]],
    titles: Sequence[str],
    x: Sequence[str],
    y: Sequence[str],
    axes: Axes,
    value_title: str,
    limits: tuple[float, float] | None = None,
) -> go.Figure:
    """Matrices of one shape, side by side on one colour scale; rows and columns are labelled once, at the edges.

    Args:
      matrices: each [Y, X], first row on top.
      titles: one each.
      x: labels of the columns; not all are written where they are too dense to be read.
      y: of the rows, likewise.
      axes: what columns and rows are.
      value_title: what the numbers are.
      limits: values at the ends of the colour scale; by default those that occur.
    """
    x, y = ([shorten(text, LABEL_TEXT) for text in labels] for labels in (x, y))
    figure, columns, panel_height = _panels(titles, x, y)
    hover = "%{y} → %{x}: %{z:.3g}<extra></extra>"
    style = {"showgrid": False, "mirror": True, "ticklen": 2, "title_standoff": 8, "title_font_size": 12}
    for i in range(-(-len(matrices) // columns) * columns):
        place, lowest, first = _place(i, columns), i + columns >= len(matrices), i % columns == 0
        if i < len(matrices):
            figure.add_trace(go.Heatmap(z=matrices[i], coloraxis="coloraxis", hovertemplate=hover), **place)
        seen = {"visible": i < len(matrices), **style, **place}
        figure.update_xaxes(title_text=plain(axes.x) if lowest else "", showticklabels=lowest, **seen)
        figure.update_yaxes(title_text=plain(axes.y) if first else "", showticklabels=first, **seen)
    figure.update_xaxes(**_ticks(x), tickangle=-90).update_yaxes(**_ticks(y), range=[len(y) - 0.5, -0.5])
    scale, low, high = colour_limits(np.concatenate([np.ravel(m) for m in matrices]))
    colours = _colours(scale, *(limits or (low, high)), value_title, panel_height)
    return figure.update_layout(coloraxis=colours)


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


def shorten(text: str, most: int) -> str:
    """The beginning of a text of more than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def signed(value: Number) -> str:
    """A number with its sign; 0 where it is none to speak of."""
    return "0" if abs(value) < 5e-7 else f"{value:+.3g}"


def _panels(titles: Sequence[str], x: Sequence[str], y: Sequence[str]) -> tuple[go.Figure, int, int]:
    """Empty panels for matrices with these labels, as many in a row as the page is wide; columns; pixels of a height."""
    left, bottom = (40 + round(CHARACTER * max(map(len, labels))) for labels in (y, x))
    right, top, gap, row_gap, cell = 100, 30, 16, 40, _cell(max(len(x), len(y)))
    panel_height = max(round(cell * len(y)), LEAST)
    panel_width = max(round(cell * len(x)), LEAST, 7 * max(map(len, titles)))
    columns = max(1, min((WIDEST - left - right + gap) // (panel_width + gap), len(titles)))
    rows = -(-len(titles) // columns)
    width, height = panel_width * columns + gap * (columns - 1), panel_height * rows + row_gap * (rows - 1)
    spacing = {"horizontal_spacing": gap / width, "vertical_spacing": row_gap / height}
    figure = make_subplots(rows, columns, subplot_titles=[plain(title) for title in titles], **spacing)
    figure.update_annotations(font_size=13, yshift=2)
    return _size(figure, width, height, (left, right, top, bottom)), columns, panel_height


def _place(i: int, columns: int) -> dict[str, int]:
    return {"row": i // columns + 1, "col": i % columns + 1}


def _colours(scale: str, low: float, high: float, title: str, length: int) -> dict[str, Any]:
    """The colour axis of all panels, with a bar as long as the topmost one."""
    bar = {**colour_bar(title), "len": length, "lenmode": "pixels", "y": 1, "yanchor": "top"}
    return {"colorscale": scale, "cmin": low, "cmax": high, "colorbar": bar}


def _cell(n: int) -> float:
    """Pixels of a cell in a panel of n: panels of one size while labels can be read, larger ones for more."""
    return max(9.0, min(24.0, 216 / n))


def _ticks(labels: Sequence[str], show: Callable[[str], str] = label) -> dict[str, Any]:
    """A label on every place, or on every so many where there are more than a panel has room for."""
    every = max(1, -(-len(labels) // 80))
    at = list(range(0, len(labels), every))
    size = min(11, max(8, round(_cell(len(labels)))))
    return {
        "tickmode": "array",
        "tickvals": at,
        "ticktext": [show(labels[i]) for i in at],
        "tickfont_size": size,
    }


def _cells(
    tokens: Sequence[Sequence[str]],
    values: Float[np.ndarray, "Y X"],
    hover: Sequence[Sequence[str]] | None,
    columns: Sequence[int],
) -> go.Heatmap:
    """Some columns of a token grid."""
    shown = [[plain(shorten(row[c], CELL_TEXT)) for c in columns] for row in tokens]
    more = [[_lines(hover[r][c] if hover else f"{row[c]:.4g}") for c in columns] for r, row in enumerate(values)]
    text = {"text": shown, "texttemplate": "%{text}", "textfont": {"size": 11}, "customdata": more}
    point = "%{y}, %{x}<br>%{customdata}<extra></extra>"
    return go.Heatmap(z=values[:, columns], coloraxis="coloraxis", xgap=1, ygap=1, hovertemplate=point, **text)


def _lines(text: str) -> str:
    return "<br>".join(plain(line) for line in text.split("\n"))


def _size(figure: go.Figure, width: int, height: int, around: tuple[int, int, int, int]) -> go.Figure:
    """Sets the size of the plot inside its margins (left, right, top, bottom)."""
    left, right, top, bottom = around
    margin = {"l": left, "r": right, "t": top, "b": bottom}
    size = {"width": width + left + right, "height": height + top + bottom}
    return figure.update_layout(template=TEMPLATE, margin=margin, showlegend=False, **size)
