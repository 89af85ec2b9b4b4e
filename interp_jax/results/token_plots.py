"""Tokens in cells, coloured by a number: what a model predicts, layer by layer, along a text.

Tokens are shown as they are, with their blanks made visible on axes, cut where they are long. What is wider than a page goes on
below, as the lines of a text do, in cells in which it can be read.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from interp_jax.results.plot_style import (
    CHARACTER,
    LEAST,
    ONE_SIGN,
    WIDEST,
    Axes,
    colour_axis,
    label_ticks,
    plain,
    shorten,
    sized,
)

CELL_TEXT = 8  # characters of a token in a cell
NARROWEST, ROW = 30, 22  # pixels of a cell with text


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
        ticks = label_ticks([shorten(x[c], CELL_TEXT) for c in columns]) | {"tickangle": -45, "side": "top"}
        figure.update_xaxes(**ticks, range=[-0.5, width - 0.5], row=i + 1, col=1)
    bare = {"showgrid": False, "showline": False, "ticklen": 2}
    figure.update_xaxes(**bare).update_xaxes(title_text=plain(axes.x), title_font_size=13, row=1, col=1)
    figure.update_yaxes(**label_ticks(y, plain), **bare, range=[n_rows - 0.5, -0.5])
    figure.update_yaxes(title_text=plain(axes.y), row=1, col=1)
    figure.update_layout(coloraxis=colour_axis(ONE_SIGN, 0.0, 1.0, value_title, max(band, LEAST)))
    return sized(figure, width * column, height, (left, right, top, 24 + max(0, LEAST - height)))


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
