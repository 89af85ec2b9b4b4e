"""Interactive plots: pure functions from arrays to plotly figures, in the house style.

Every axis has a title; names and labels are shown as they are (markup in them is escaped). A figure wants fewer than about
20,000 points: draw more as a heat map, or thin them out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Num

from interp_jax.results.plot_style import (
    COLOURS,
    GREY,
    HEIGHT,
    TEMPLATE,
    Axes,
    Number,
    axis,
    colour_bar,
    colour_limits,
    extent,
    label,
    plain,
    translucent,
)

Vector = Num[np.ndarray, "_"] | Sequence[Number]

MOST_MARKERS = 40  # points of a line that still get a marker each
DASHES = ("solid", "dash", "dot")


class Line(NamedTuple):
    """A named curve, with the band between `low` and `high` where they are given."""

    name: str
    x: Vector
    y: Vector
    low: Vector | None = None
    high: Vector | None = None


class Points(NamedTuple):
    """A named cloud of points, each with a name of its own where `names` are given, which is shown where the mouse is."""

    name: str
    x: Vector
    y: Vector
    names: Sequence[str] | None = None


class Reference(NamedTuple):
    """A value of y that means something, drawn as a dashed line with its label in the margin."""

    y: Number
    label: str


def lines(series: Sequence[Line], axes: Axes, references: Sequence[Reference] = ()) -> go.Figure:
    """Curves over a common axis; short ones show their points."""
    bands = [v for line in series for v in (line.low, line.high) if v is not None]
    figure = _chart([line.x for line in series], [line.y for line in series] + bands, axes, references)
    for i, line in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        if line.low is not None and line.high is not None:
            around = {"x": np.r_[line.x, line.x[::-1]], "y": np.r_[line.high, line.low[::-1]]}
            fill = {"fill": "toself", "fillcolor": translucent(colour, 0.15), "line": {"width": 0}}
            figure.add_trace(go.Scatter(**around, **fill, mode="lines", hoverinfo="skip", showlegend=False))
        mode = "lines+markers" if len(line.x) <= MOST_MARKERS else "lines"
        # a ninth line has the first one's colour, dashed
        style = {"color": colour, "width": 2, "dash": DASHES[i // len(COLOURS) % len(DASHES)]}
        figure.add_trace(go.Scatter(x=line.x, y=line.y, name=plain(line.name), mode=mode, line=style))
    return figure.update_layout(showlegend=len(series) > 1)


def scatter(groups: Sequence[Points], axes: Axes, references: Sequence[Reference] = ()) -> go.Figure:
    """Clouds of points, one colour each."""
    figure = _chart([group.x for group in groups], [group.y for group in groups], axes, references)
    for i, group in enumerate(groups):
        marker = {"color": COLOURS[i % len(COLOURS)], "size": 6, "opacity": 0.6}
        trace = go.Scatter(x=group.x, y=group.y, name=plain(group.name), mode="markers", marker=marker)
        if group.names is not None:
            own = {"hovertext": [plain(name) for name in group.names], "hoverinfo": "text+x+y"}
            trace.update(**own)
        figure.add_trace(trace)
    return figure.update_layout(showlegend=len(groups) > 1)


def heatmap(
    values: Num[np.ndarray, "Y X"],
    axes: Axes,
    value_title: str,
    x: Sequence[str] | Vector | None = None,
    y: Sequence[str] | Vector | None = None,
) -> go.Figure:
    """One matrix in square cells, first row on top; `x` and `y` label the columns and rows (default: indices)."""
    rows, columns = values.shape
    cell = min(40.0, 640 / columns, 560 / rows)
    left, right, top, bottom = 90, 100, 16, 64
    width, height = max(cell * columns, 40), max(cell * rows, 120)  # room for the colour bar's title
    scale, low, high = colour_limits(values)
    hover = "%{y}, %{x}: %{z:.4g}<extra></extra>"
    figure = go.Figure(layout={"template": TEMPLATE, "margin": {"l": left, "r": right, "t": top, "b": bottom}})
    figure.add_trace(
        go.Heatmap(
            z=values, colorscale=scale, zmin=low, zmax=high, colorbar=colour_bar(value_title), hovertemplate=hover
        )
    )
    figure.update_xaxes(title_text=plain(axes.x), **_labels(x, columns, angle=-90), showgrid=False)
    figure.update_yaxes(
        title_text=plain(axes.y), **_labels(y, rows, angle=0), showgrid=False, range=[rows - 0.5, -0.5]
    )
    return figure.update_layout(width=width + left + right, height=height + top + bottom)


def _chart(x: list[Vector], y: list[Vector], axes: Axes, references: Sequence[Reference]) -> go.Figure:
    figure = go.Figure(layout={"template": TEMPLATE})
    low, high = extent([*y, [r.y for r in references]], axes.y_scale, axes.y_range)
    figure.update_xaxes(**axis(axes.x, axes.x_scale, *extent(x, axes.x_scale, axes.x_range)))
    figure.update_yaxes(**axis(axes.y, axes.y_scale, low, high))
    _refer(figure, references, axes.y_scale, low, high)
    return figure


def _refer(figure: go.Figure, references: Sequence[Reference], scale: str, low: Number, high: Number) -> None:
    """Draws references, with their labels in the right margin pushed apart where lines are closer than text is high."""
    pixels = HEIGHT - 90
    at = np.array([r.y for r in references], np.float64)
    at, low, high = (np.log(at), np.log(low), np.log(high)) if scale == "log" else (at, low, high)
    beneath = -np.inf
    for i in np.argsort(at):
        line = pixels * (at[i] - low) / (high - low)
        text = beneath = max(line, beneath + 15)
        note = {"text": plain(references[i].label), "font": {"size": 12, "color": GREY}, "showarrow": False}
        place = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 6, "yshift": float(text - line)}
        figure.add_hline(references[i].y, line={"color": GREY, "width": 1, "dash": "dash"})
        figure.add_annotation(**note, **place, y=at[i] / np.log(10) if scale == "log" else at[i], yanchor="middle")
    if references:
        figure.update_layout(margin_r=24 + 7 * max(len(r.label) for r in references))


def _labels(ticks: Sequence[str] | Vector | None, n: int, angle: int) -> dict[str, Any]:
    if ticks is None:
        return {"dtick": max(1, n // 12)}
    at = {"tickmode": "array", "tickvals": list(range(n)), "ticktext": [label(t) for t in ticks], "tickfont_size": 11}
    return at | ({"tickangle": angle} if any(isinstance(t, str) for t in ticks) else {})
