"""The command behind `./launch/status`: how far a sweep is, in one view, from its directory alone.

./launch/status runs/superposition            once
./launch/status runs/superposition --watch    until it is finished, or nothing runs any more
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.frozen import FrozenSweep, read_frozen
from interp_jax.experiments.progress import STATES, ChunkProgress, progress

PAUSE = 2.0  # seconds between two looks
MOST_ROWS = 12  # of chunks that run or failed


def view(sweep: FrozenSweep) -> RenderableType:
    """The sweep in one view: how many runs are in which state, a bar of the steps taken, and what runs or failed."""
    return drawn(sweep, progress(sweep))


def drawn(sweep: FrozenSweep, states: Sequence[ChunkProgress]) -> RenderableType:
    """See `view`."""
    before = len(sweep.configs) - sum(len(s.chunk.members) for s in states)
    runs = Counter({"finished": before})
    for state in states:
        runs[state.state] += len(state.chunk.members)
    taken = sum(s.step * len(s.chunk.members) for s in states)
    total = sum(s.steps * len(s.chunk.members) for s in states)
    counts = " · ".join(f"{runs[name]:,} {name}" for name in STATES if runs[name])
    head = Text(f"{sweep.directory}\n{len(sweep.configs):,} runs: {counts}")
    bar = Table.grid(padding=(0, 1))
    share = taken / total if total else 1.0
    bar.add_row(ProgressBar(total=1.0, completed=share, width=50), f"{100 * share:.0f}% of {total:,} steps of runs")
    return Group(head, bar, *rows(states))


def rows(states: Sequence[ChunkProgress]) -> list[RenderableType]:
    """A table of the chunks that run, failed or were interrupted, where there are any."""
    order = ("failed", "interrupted", "running")
    shown = sorted((s for s in states if s.state in order), key=lambda s: order.index(s.state))
    if not shown:
        return []
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (("chunk", "left"), ("runs", "right"), ("step", "right"), ("state", "left"), ("", "left")):
        table.add_column(name, justify=justify)
    for s in shown[:MOST_ROWS]:
        table.add_row(s.chunk.id, str(len(s.chunk.members)), f"{s.step}/{s.steps}", s.state, Text(s.note))
    more = len(shown) - MOST_ROWS
    return [table, Text(f"and {more} more")] if more > 0 else [table]


def watch(sweep: FrozenSweep, console: Console) -> None:
    """Look again and again until nothing is left to do, or nobody does it."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            states = progress(sweep)
            live.update(drawn(sweep, states), refresh=True)
            if not any(state.state in ("running", "waiting") for state in states):
                return
            time.sleep(PAUSE)


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./launch/status", description="How far a frozen sweep is.")
    parser.add_argument("sweep", type=Path, help="a sweep.json, or the directory that holds it")
    parser.add_argument("--watch", action="store_true", help="look again every two seconds")
    options = parser.parse_args(arguments)
    sweep, console = read_frozen(options.sweep), Console()
    if options.watch:
        watch(sweep, console)
    else:
        console.print(view(sweep))


if __name__ == "__main__":
    exit_cleanly(main)
