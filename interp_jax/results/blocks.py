"""Blocks, of which a report is a list: what an experiment says, before anyone decides how it looks.

All text in them is data: in a report it is escaped, `between backticks` it is set as code, and an empty line begins a
paragraph.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Num

from interp_jax.results import tables


class Section(NamedTuple):
    """A heading, which the table of contents lists, and what to know before looking at what follows."""

    heading: str
    text: str = ""


class Text(NamedTuple):
    """Paragraphs."""

    text: str


class Figure(NamedTuple):
    """A plot, and what one sees in it and should expect."""

    figure: go.Figure
    caption: str


class TableBlock(NamedTuple):
    """A table with its caption."""

    table: tables.Table


class Code(NamedTuple):
    """Preformatted text: a command, a sample."""

    text: str


class Tokens(NamedTuple):
    """A text in which each token's background shows its value [T]: blue above zero, red below; blanks are visible."""

    tokens: Sequence[str]
    values: Num[np.ndarray, " T"] | Sequence[float | int | np.number]
    caption: str


class Details(NamedTuple):
    """Preformatted text, folded under its summary."""

    summary: str
    text: str


class Insert(NamedTuple):
    """An element that a script of this package fills when the page opens, with the script's and the style's file in it.

    `name` is the element's identity, `kind` its class and the name of `<kind>.js` and `<kind>.css`; `caption` is below it.
    """

    kind: str
    name: str
    caption: str


Block = Section | Text | Figure | TableBlock | Code | Tokens | Details | Insert


class Page(NamedTuple):
    """What an experiment has to say: title, summary and blocks of its report.

    `data` maps names of JSON files, to be written beside the report, to their content; `files` those of other files to their
    text.
    """

    title: str
    summary: str
    blocks: Sequence[Block]
    data: Mapping[str, Any] = {}
    files: Mapping[str, str] = {}
