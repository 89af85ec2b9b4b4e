"""The table of `patching.py`, a row for each grid and batch."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

OURS = "interp_jax"


def show(result: dict[str, Any], bars: dict[tuple[str, int, str], float], console: Console) -> None:
    """Seconds of every side, how many times as long the others take, and how far the library is from its floor."""
    versions = result["versions"]
    console.print(f"{result['device']}; floor: matrix products at {result['gflops']:.0f} GFLOP/s", highlight=False)
    console.print(
        f"seconds of {OURS} and of TransformerLens {' and '.join(versions.values()) or '(left out)'}", highlight=False
    )
    table = Table("B", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("grid", no_wrap=True)
    for name in ("cells", OURS, "compiling"):
        table.add_column(name)
    for version in versions.values():
        table.add_column(version)
        table.add_column("ratio (bar)", no_wrap=True)
    for name in ("differs by", "floor", "× floor", "done / least", "cells / s"):
        table.add_column(name)
    for row in result["rows"]:
        table.add_row(*columns(row, {lens: bars.get((row["grid"], row["batch"], lens)) for lens in versions}))
    console.print(table)
    if versions:
        console.print("differences are parts of the largest effect; ~ is from a sample of cells", highlight=False)
        console.print(with_compilation(result["rows"], versions), highlight=False)
    for row in result["rows"]:
        for lens, found in row["lenses"].items():
            if found["sampled"]:
                console.print(
                    f"    {row['grid']}, B = {row['batch']}, {versions[lens]}: {found['sampled']} of {row['cells']}, "
                    f"{found['per_cell']:.3f} s each, and {found['shared']:.1f} s for what all cells share",
                    highlight=False,
                )


def with_compilation(rows: list[dict[str, Any]], versions: dict[str, str]) -> str:
    """Whether a first run, compilation and all, takes less time than the others do."""
    longer = [
        f"{row['grid']}, B = {row['batch']} ({versions[lens]})"
        for row in rows
        for lens, found in row["lenses"].items()
        if row["compiling"] + row["seconds"] > found["seconds"]
    ]
    if longer:
        return f"with compilation, {OURS} takes longer than TransformerLens for {'; '.join(longer)}"
    return f"with compilation too, {OURS} takes less time than TransformerLens for every grid"


def columns(row: dict[str, Any], bars: dict[str, float | None]) -> list[str]:
    """A row of the table."""
    cells = [str(row["batch"]), row["grid"], str(row["cells"]), number(row["seconds"]), number(row["compiling"])]
    for name, bar in bars.items():
        lens = row["lenses"][name]
        cells.append(("~" if lens["sampled"] else "") + number(lens["seconds"]))
        cells.append(f"{lens['ratio']:.1f}×" + ("" if bar is None else f" ({bar:g}×)"))
    differences = [lens["difference"] for lens in row["lenses"].values()]
    cells += [f"{max(differences):.0e}" if differences else "", number(row["floor"])]
    cells += [f"{row['seconds'] / row['floor']:.1f}"]
    cells += ["" if row["done"] is None else f"{row['done'] / row['cone']:.2f}"]
    return [*cells, number(row["cells"] / row["seconds"])]


def number(seconds: float) -> str:
    """Three figures."""
    return f"{seconds:.3g}" if seconds < 1_000 else f"{seconds:,.0f}"
