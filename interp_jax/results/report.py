"""The report: one HTML page that explains itself, opens from a disk without a network, and can be mailed and printed.

A report is a list of blocks, written in order. Plotly's script lies once beside the report, as `plotly.min.js`.
"""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.offline

from interp_jax.atomic_io import jsonable, write_text
from interp_jax.results import tables
from interp_jax.results.blocks import Block, Code, Details, Figure, Insert, Section, TableBlock, Text, Tokens
from interp_jax.results.plot_style import BLANKS

SCRIPT = "plotly.min.js"
FALLBACK = f"This figure is drawn by {SCRIPT}, which has to lie beside this file; it is missing, or scripts are off."


def write_report(
    directory: str | Path,
    title: str,
    summary: str,
    blocks: Sequence[Block],
    command: str = "",
    manifest: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `report.html`, and plotly's script beside it where it is not there yet.

    Args:
      directory: where to; made if need be.
      title: what was done.
      summary: what came out, in a few sentences.
      blocks: the content, in order.
      command: the command that makes this report again.
      manifest: config, versions, devices; shown folded at the end.

    Returns:
      The report's path.

    Raises:
      InputError: the directory cannot be written, or the disk is full.
    """
    directory = Path(directory)
    script = plotly.offline.get_plotlyjs()
    beside = directory / SCRIPT
    if not beside.exists() or beside.stat().st_size != len(script.encode()):
        write_text(beside, script)
    write_text(directory / "report.html", render(title, summary, blocks, command, manifest))
    return directory / "report.html"


def render(
    title: str, summary: str, blocks: Sequence[Block], command: str = "", manifest: Mapping[str, Any] | None = None
) -> str:
    """The page as text; see `write_report`."""
    body = "\n".join(_block(i, block, _number(blocks, i)) for i, block in enumerate(blocks))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>
{_resource("report.css")}{_resources(blocks, "css")}</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
<div class="summary">{_paragraphs(summary)}</div>
{_contents(blocks)}
</header>
<main>
{body}
</main>
{_footer(command, manifest)}
<script src="{SCRIPT}"></script>
<script>
{_resource("report.js")}{_resources(blocks, "js")}</script>
</body>
</html>
"""


def _block(i: int, block: Block, number: int) -> str:
    match block:
        case Section(heading, text):
            return f'<h2 id="part-{i}">{html.escape(heading)}</h2>\n{_paragraphs(text)}'
        case Text(text):
            return _paragraphs(text)
        case Figure(figure, caption):
            return _captioned(_graph(f"figure-{number}", figure), f"Figure {number}", caption)
        case TableBlock(table):
            return _captioned(f'<div class="scroll">{tables.to_html(table)}</div>', f"Table {number}", table.caption)
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Tokens(tokens, values, caption):
            return _captioned(_coloured(tokens, np.asarray(values, np.float64)), f"Text {number}", caption)
        case Details(summary, text):
            return _folded(summary, text)
        case Insert(kind, name, caption):
            element = f'<div class="{html.escape(kind)}" data-name="{html.escape(name)}"></div>'
            return f"{element}\n<p>{_inline(caption)}</p>"


def _number(blocks: Sequence[Block], i: int) -> int:
    """Which of its kind the block is, from 1."""
    return sum(type(block) is type(blocks[i]) for block in blocks[: i + 1])


def _contents(blocks: Sequence[Block]) -> str:
    headings = [(i, block.heading) for i, block in enumerate(blocks) if isinstance(block, Section)]
    if len(headings) < 2:
        return ""
    items = "\n".join(f'<li><a href="#part-{i}">{html.escape(heading)}</a></li>' for i, heading in headings)
    return f'<nav aria-label="Contents"><strong>Contents</strong><ol>\n{items}\n</ol></nav>'


def _footer(command: str, manifest: Mapping[str, Any] | None) -> str:
    made = f"<p>The command that makes this report:</p>\n<pre>{html.escape(command)}</pre>" if command else ""
    rest = dict(jsonable(manifest or {}))
    folded = [
        _folded(name, json.dumps(content, indent=2, ensure_ascii=False))
        for name, content in (("Config", rest.pop("config", None)), ("Manifest", rest))
        if content
    ]
    return f"<footer>\n{made}\n{''.join(folded)}</footer>" if made or folded else ""


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{_inline(part.strip())}</p>" for part in re.split(r"\n\s*\n", text) if part.strip())


def _inline(text: str) -> str:
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text))


def _captioned(content: str, name: str, caption: str) -> str:
    return f"<figure>\n{content}\n<figcaption><b>{name}.</b> {_inline(caption)}</figcaption>\n</figure>"


def _folded(summary: str, text: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"


def _graph(name: str, figure: go.Figure) -> str:
    data = figure.to_json()  # plotly writes "<" as its JSON escape: no text in the data can end the script element
    height = figure.layout.height or figure.layout.template.layout.height
    return (
        f'<div class="scroll"><div class="graph" id="{name}" style="min-height: {height or 0}px">'
        f'<p class="fallback">{FALLBACK}</p></div></div>\n'
        f'<script type="application/json" id="{name}-data">{data}</script>'
    )


def _coloured(tokens: Sequence[str], values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    reach = float(np.abs(finite).max(initial=0.0)) or 1.0
    low = -reach if (finite < 0).any() else 0.0
    spans = (
        f'<span style="background:{_tint(value / reach)}" title="{value:.4g}">{_visible(token)}</span>'
        for token, value in zip(tokens, values, strict=True)
    )
    steps = ", ".join(_tint(v) for v in np.linspace(low / reach, 1, 9))
    gradient = f'<span style="background:linear-gradient(90deg, {steps})"></span>'
    scale = f'<div class="scale">{low:.3g}{gradient}{reach:.3g}</div>'
    return f'<div class="tokens">{"".join(spans)}</div>\n{scale}'


def _tint(share: float) -> str:
    """White at 0, blue at 1, red at -1: light enough for black letters to be read on it."""
    if not math.isfinite(share):
        return "rgb(255,255,255)"
    full = (86, 160, 220) if share > 0 else (226, 110, 80)
    return "rgb({:.0f},{:.0f},{:.0f})".format(*(255 + abs(share) * (channel - 255) for channel in full))


def _visible(token: str) -> str:
    marks = (f"<i>{BLANKS[c]}</i>" + "<br>" * (c == "\n") if c in BLANKS else html.escape(c) for c in token)
    return "".join(marks)


def _resources(blocks: Sequence[Block], suffix: str) -> str:
    """The scripts or styles of what is inserted, each once."""
    kinds = dict.fromkeys(block.kind for block in blocks if isinstance(block, Insert))
    return "".join(_resource(f"{kind}.{suffix}") for kind in kinds)


def _resource(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
