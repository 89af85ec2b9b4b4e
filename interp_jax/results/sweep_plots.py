"""Plots of many runs at once: parallel coordinates, a vertical axis for each thing that runs differ in, a line for each run."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp_jax.results.plot_style import HEIGHT, INK, MARKS, TEMPLATE, Number, colour_bar, label, plain

DECADES = 2.0  # that positive values span at least where an axis is logarithmic
MOST_TICKS = 12  # of an axis that is marked at its values


class Coordinate(NamedTuple):
    """An axis: its title, and a value for each run, a number or a name."""

    title: str
    values: Sequence[Number | str | bool | None]


def parallel(coordinates: Sequence[Coordinate], colours: Float[np.ndarray, " R"], colour_title: str) -> go.Figure:
    """Runs as lines through vertical axes, coloured by a value; dragging along an axis picks runs out."""
    finite = colours[np.isfinite(colours)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    line = {"color": colours, "colorscale": MARKS, "cmin": low, "cmax": high, "showscale": True}
    drawn = go.Parcoords(
        dimensions=[dimension(one) for one in coordinates],
        line={**line, "colorbar": colour_bar(colour_title)},
        labelfont={"size": 13, "color": INK},
        tickfont={"size": 12, "color": INK},
        unselected={"line": {"opacity": 0.05}},
    )
    margin = {"l": 96, "r": 40, "t": 72, "b": 32}
    return go.Figure(drawn, {"template": TEMPLATE, "margin": margin, "height": HEIGHT})


def dimension(one: Coordinate) -> dict[str, Any]:
    """An axis: names at equal distances, few numbers each with a tick, numbers over several decades by their logarithm."""
    title = {"label": plain(one.title)}
    if not all(isinstance(v, Number) and not isinstance(v, bool) for v in one.values):
        names = sorted({str(v) for v in one.values})
        at = [names.index(str(v)) for v in one.values]
        return {**title, "values": at, "tickvals": list(range(len(names))), "ticktext": [label(n) for n in names]}
    values = np.asarray(one.values, np.float64)
    seen = np.unique(values[np.isfinite(values)])
    wide = bool(seen.size) and bool(seen[0] > 0) and bool(seen[-1] >= seen[0] * 10**DECADES)
    place = np.log10 if wide else np.asarray
    ticks = seen if seen.size <= MOST_TICKS else decades(seen) if wide else None
    marked = {} if ticks is None else {"tickvals": place(ticks).tolist(), "ticktext": [label(v) for v in ticks]}
    return {**title, "values": place(values), **marked}


def decades(seen: Float[np.ndarray, " N"]) -> Float[np.ndarray, " T"]:
    """The powers of ten among positive values in order."""
    return 10.0 ** np.arange(np.ceil(np.log10(seen[0])), np.floor(np.log10(seen[-1])) + 1)
