"""Tables of numbers with intervals, for a report, a terminal or a file.

An interval over seeds is Student's: mean ± t(.975, n−1) · s / √n, with s the sample standard deviation.
"""

import csv
import html
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text
from jaxtyping import Float


class Interval(NamedTuple):
    """A mean and its 95% interval; `low` and `high` are NaN where one value gives none."""

    mean: float
    low: float
    high: float


Cell = str | bool | int | float | np.bool_ | np.number | Interval


class Table(NamedTuple):
    """Column names, rows of as many cells, and what one sees in them."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


def interval(values: Float[np.ndarray, " N"] | Sequence[float | int | np.number]) -> Interval:
    """Mean and Student's 95% interval of independent values, one per seed."""
    import scipy.stats  # takes a second, which a job without intervals need not wait for

    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def cell_text(cell: Cell) -> str:
    """A cell for a reader: four digits, or as many as the interval's half-width makes sense of; "–" for not finite."""
    if isinstance(cell, Interval):
        half = (cell.high - cell.low) / 2
        if not math.isfinite(half):
            return cell_text(cell.mean)
        decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 4
        return f"{cell.mean:.{decimals}f} ± {half:.{decimals}f}"
    if isinstance(cell, bool | np.bool_ | str):
        return str(cell)
    if isinstance(cell, int | np.integer):
        return f"{cell:,}"
    return f"{cell:.4g}" if math.isfinite(cell) else "–"


def to_html(table: Table) -> str:
    """The table as an HTML element with all text escaped; numbers are aligned right."""
    head = "".join(f"<th{_align(table, i)}>{html.escape(name)}</th>" for i, name in enumerate(table.columns))
    rows = (
        "".join(f"<td{_align(table, i)}>{html.escape(cell_text(cell))}</td>" for i, cell in enumerate(row))
        for row in table.rows
    )
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"


def to_text(table: Table, width: int = 119) -> str:
    """The table for a terminal of `width` characters."""
    drawn = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, caption=rich.text.Text(table.caption) if table.caption else None
    )
    for i, name in enumerate(table.columns):
        drawn.add_column(rich.text.Text(name), justify="right" if _is_numeric(table, i) else "left")
    for row in table.rows:
        drawn.add_row(*(rich.text.Text(cell_text(cell)) for cell in row))  # Text: brackets in a cell are no markup
    console = rich.console.Console(file=io.StringIO(), width=width, color_system=None)
    console.print(drawn)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def to_csv(table: Table) -> str:
    """The table with all digits; a column of intervals becomes three: `name`, `name low`, `name high`."""
    wide = [any(isinstance(row[i], Interval) for row in table.rows) for i in range(len(table.columns))]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        label
        for name, three in zip(table.columns, wide, strict=True)
        for label in ((name, f"{name} low", f"{name} high") if three else (name,))
    )
    for row in table.rows:
        writer.writerow(
            value
            for cell, three in zip(row, wide, strict=True)
            for value in ((cell if isinstance(cell, Interval) else (cell, "", "")) if three else (cell,))
        )
    return file.getvalue()


def _is_numeric(table: Table, column: int) -> bool:
    return not any(isinstance(row[column], str) for row in table.rows)


def _align(table: Table, column: int) -> str:
    return ' class="number"' if _is_numeric(table, column) else ""
