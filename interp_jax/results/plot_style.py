"""The house style of the plots: colours, fonts, axes, and text that is shown as it is.

Lines and points take their colours from Okabe and Ito (2008), which people with any colour vision can tell apart.
Quantities of one sign are drawn from white to blue, signed ones in red-white-blue, symmetric around zero.
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import plotly.io
from jaxtyping import Shaped

TEMPLATE = "interp_jax"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00", "#000000")
AREAS = ("#DEDEDE", "#A9D3EE", "#F8CF97", "#A3DBC8", "#E9C3D9")  # pale, so that lines are seen on them
INK, GREY, GRID, AXIS = "#222222", "#6A6A6A", "#E8E8E8", "#999999"
ONE_SIGN, TWO_SIGNS, MARKS = "Blues", "RdBu_r", "Cividis"  # colour scales; `MARKS` has no white, for points
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'Liberation Sans', sans-serif"
HEIGHT = 420  # pixels, of a plot as wide as the page
WIDEST = 940  # pixels, of a plot of fixed width
LEAST = 120  # pixels of a panel, for the title of its colour bar to fit
CHARACTER = 6.6  # pixels that one of a label takes, on average, at size 11
BLANKS = {" ": "·", "\t": "→", "\n": "↵", "\r": "␍"}


Number = float | int | np.number
Range = tuple[Number, Number]


class Axes(NamedTuple):
    """Titles of the axes, with units; scales are "linear" or "log"; a range is (low, high) in data units."""

    x: str
    y: str
    x_scale: str = "linear"
    y_scale: str = "linear"
    x_range: Range | None = None
    y_range: Range | None = None


def _template() -> go.layout.Template:
    axis = {
        "gridcolor": GRID,
        "linecolor": AXIS,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": AXIS,
        "tickfont": {"size": 12},
        "title": {"standoff": 8, "font": {"size": 14}},
        "zeroline": False,
        "automargin": True,
        "exponentformat": "none",
        "separatethousands": True,
    }
    layout = go.Layout(
        font={"family": FONT, "size": 14, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        colorway=COLOURS,
        margin={"l": 64, "r": 24, "t": 32, "b": 56},
        xaxis=axis,
        yaxis=axis,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 13}},
        hoverlabel={"font": {"family": FONT, "size": 13}},
        height=HEIGHT,
    )
    return go.layout.Template(layout=layout)


plotly.io.templates[TEMPLATE] = _template()


def plain(text: str) -> str:
    """`text` as plotly shows it unchanged: its labels are a small dialect of HTML."""
    return html.escape(text, quote=False)


def label(value: str | Number) -> str:
    """A tick's label: a number to four digits, or a token with its blanks made visible."""
    if isinstance(value, str):
        return plain("".join(BLANKS.get(c, c) for c in value))
    return f"{value:.4g}"


def axis(title: str, scale: str, low: Number, high: Number) -> dict[str, Any]:
    """Settings of an axis from `low` to `high` in data units; ticks of a logarithmic one are at 1, 2, 5 or at decades."""
    settings = {"title_text": plain(title), "type": scale}
    if scale == "linear":
        return settings | {"range": [low, high]}
    bottom, top = math.log10(low), math.log10(high)
    within = [10.0**e for e in range(math.ceil(bottom - 1e-9), math.floor(top + 1e-9) + 1)]
    if top - bottom < 2.5:
        powers = range(math.floor(bottom), math.floor(top) + 1)
        within = [
            m * 10.0**e for e in powers for m in (1, 2, 5) if low <= m * 10.0**e * (1 + 1e-9) <= high * (1 + 2e-9)
        ]
    ticks = {"tickmode": "array", "tickvals": within, "ticktext": [f"{v:,.6g}" for v in within]}
    return settings | {"range": [bottom, top]} | ticks


def extent(values: Sequence[Any], scale: str, limits: Range | None) -> Range:
    """The range of an axis: `limits`, or that of the finite (on a log scale: positive) values and a little room."""
    if limits is not None:
        return limits
    everything = np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in values]) if values else np.zeros(0)
    seen = everything[np.isfinite(everything) & ((everything > 0) | (scale != "log"))]
    if not seen.size:
        return (0.1, 1.0) if scale == "log" else (0.0, 1.0)
    low, high = (np.log10(seen.min()), np.log10(seen.max())) if scale == "log" else (seen.min(), seen.max())
    room = 0.03 * (high - low) or max(abs(high), 1.0) / 10
    ends = np.array([low - room, high + room])
    return tuple(float(v) for v in (10**ends if scale == "log" else ends))


def colour_limits(values: Shaped[np.ndarray, "..."]) -> tuple[str, float, float]:
    """Colour scale and the values at its ends: symmetric around zero where both signs occur."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < 0:
        reach = max(-low, high)
        return TWO_SIGNS, -reach, reach
    return ONE_SIGN, low, high


def colour_bar(title: str) -> Mapping[str, Any]:
    """A slim colour bar with its title alongside."""
    text = {"text": plain(title), "side": "right", "font": {"size": 13}}
    return {"title": text, "thickness": 12, "outlinewidth": 0, "tickfont": {"size": 12}, "x": 1.02, "xpad": 4}


def translucent(colour: str, opacity: float) -> str:
    """A "#rrggbb" colour that lets what is below it be seen."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


# --- panels of cells, of fixed size


def shorten(text: str, most: int) -> str:
    """The beginning of a text of more than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def cell_size(n: int) -> float:
    """Pixels of a cell in a panel of n: panels of one size while labels can be read, larger ones for more."""
    return max(9.0, min(24.0, 216 / n))


def label_ticks(labels: Sequence[str], show: Callable[[str], str] = label) -> dict[str, Any]:
    """A label on every place, or on every so many where there are more than a panel has room for."""
    every = max(1, -(-len(labels) // 80))
    at = list(range(0, len(labels), every))
    size = min(11, max(8, round(cell_size(len(labels)))))
    return {
        "tickmode": "array",
        "tickvals": at,
        "ticktext": [show(labels[i]) for i in at],
        "tickfont_size": size,
    }


def colour_axis(scale: str, low: float, high: float, title: str, length: int) -> dict[str, Any]:
    """The colour axis of all panels, with a bar as long as the topmost one."""
    bar = {**colour_bar(title), "len": length, "lenmode": "pixels", "y": 1, "yanchor": "top"}
    return {"colorscale": scale, "cmin": low, "cmax": high, "colorbar": bar}


def sized(figure: go.Figure, width: int, height: int, around: tuple[int, int, int, int]) -> go.Figure:
    """Sets the size of the plot inside its margins (left, right, top, bottom)."""
    left, right, top, bottom = around
    margin = {"l": left, "r": right, "t": top, "b": bottom}
    size = {"width": width + left + right, "height": height + top + bottom}
    return figure.update_layout(template=TEMPLATE, margin=margin, showlegend=False, **size)
