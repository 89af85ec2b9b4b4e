"""Plots of many runs at once: parallel coordinates, a vertical axis for each thing that runs differ in, a line for each run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.colors
import plotly.graph_objects as go
from jaxtyping import Float

from interp_jax.results.plot_style import (
    AXIS,
    GREY,
    HEIGHT,
    INK,
    MARKS,
    TEMPLATE,
    Number,
    colour_bar,
    label,
    plain,
    translucent,
)

DECADES = 2.0  # that positive values span at least where an axis is logarithmic
MOST_TICKS = 12  # of an axis that is marked at its values
SHADES = 10  # of colour


class Coordinate(NamedTuple):
    """An axis: its title, and a value for each run, a number or a name."""

    title: str
    values: Sequence[Number | str | bool | None]


class Scale(NamedTuple):
    """An axis from 0 to 1: where each run is [R], where its ticks are, and what is written there."""

    place: Float[np.ndarray, " R"]
    ticks: Float[np.ndarray, " T"]
    labels: list[str]


def parallel(coordinates: Sequence[Coordinate], colours: Float[np.ndarray, " R"], colour_title: str) -> go.Figure:
    """Runs as lines through vertical axes, in shades of a value; runs that have none are grey, and below the others."""
    scales = [scale_of(one.values) for one in coordinates]
    places, finite = np.stack([scale.place for scale in scales], 1), colours[np.isfinite(colours)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    shade = np.floor(SHADES * (colours - low) / ((high - low) or 1.0)).clip(0, SHADES - 1)
    figure = go.Figure(layout={"template": TEMPLATE, "height": HEIGHT, "margin": {"l": 72, "r": 24, "t": 56, "b": 24}})
    for n, colour in ((np.nan, GREY), *enumerate(shades())):
        chosen = places[np.isnan(shade) if np.isnan(n) else shade == n]
        if len(chosen):
            figure.add_trace(bundle(chosen, colour))
    figure.add_trace(key(low, high, colour_title))
    for i, (one, scale) in enumerate(zip(coordinates, scales, strict=True)):
        draw_axis(figure, i, one.title, scale)
    figure.update_xaxes(visible=False, range=[-0.35, len(scales) - 0.75])
    return figure.update_yaxes(visible=False, range=[-0.06, 1.06]).update_layout(showlegend=False)


def shades() -> list[str]:
    """Colours from the low end of the scale to the high one."""
    sampled = plotly.colors.sample_colorscale(MARKS, np.linspace(0, 1, SHADES).tolist(), colortype="tuple")
    return ["#" + "".join(f"{round(255 * channel):02X}" for channel in colour) for colour in sampled]


def bundle(places: Float[np.ndarray, "R A"], colour: str) -> go.Scatter:
    """Runs of one shade, as one broken line."""
    gaps = np.full((len(places), 1), np.nan)
    x = np.tile(np.r_[np.arange(places.shape[1]), np.nan], len(places))
    y = np.concatenate([places, gaps], 1).ravel()
    opacity = float(np.clip(20 / len(places), 0.25, 0.9))
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": translucent(colour, opacity), "width": 1.5}, hoverinfo="skip"
    )


def key(low: float, high: float, title: str) -> go.Scatter:
    """A colour bar, which hangs on a point that is not drawn."""
    marker = {"color": [low], "cmin": low, "cmax": high, "colorscale": MARKS, "colorbar": colour_bar(title)}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip")


def draw_axis(figure: go.Figure, i: int, title: str, scale: Scale) -> None:
    """A vertical line with its ticks to the left and its title above."""
    figure.add_shape(type="line", x0=i, x1=i, y0=0, y1=1, line={"color": AXIS, "width": 1.5})
    text = {"showarrow": False, "font": {"size": 13, "color": INK}}
    figure.add_annotation(x=i, y=1.06, text=plain(title), yanchor="bottom", **text)
    for at, what in zip(scale.ticks, scale.labels, strict=True):
        small = {"size": 12, "color": INK}
        text["bgcolor"] = "rgba(255,255,255,0.75)"
        figure.add_annotation(x=i, y=at, text=what, xanchor="right", xshift=-4, **{**text, "font": small})


def scale_of(values: Sequence[Number | str | bool | None]) -> Scale:
    """Names at equal distances, few numbers each with a tick, numbers over several decades by their logarithm."""
    if not all(isinstance(v, Number) and not isinstance(v, bool) for v in values):
        names = sorted({str(v) for v in values})
        at = np.linspace(0, 1, len(names)) if len(names) > 1 else np.array([0.5])
        return Scale(at[[names.index(str(v)) for v in values]], at, [label(name) for name in names])
    x = np.asarray(values, np.float64)
    seen = np.unique(x[np.isfinite(x)])
    wide = bool(seen.size) and bool(seen[0] > 0) and bool(seen[-1] >= seen[0] * 10**DECADES)
    marks = seen if seen.size <= MOST_TICKS else decades(seen) if wide else np.linspace(seen[0], seen[-1], 5)
    down, up = np.log10(seen[[0, -1]]) if wide else seen[[0, -1]] if seen.size else (0.0, 1.0)
    height = lambda v: ((np.log10(v) if wide else v) - down) / ((up - down) or 1.0) + (0.5 if up == down else 0.0)
    return Scale(height(x), height(marks), [f"{v:.3g}" for v in marks])


def decades(seen: Float[np.ndarray, " N"]) -> Float[np.ndarray, " T"]:
    """The powers of ten among positive values in order."""
    return 10.0 ** np.arange(np.ceil(np.log10(seen[0])), np.floor(np.log10(seen[-1])) + 1)
