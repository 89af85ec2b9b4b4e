"""The collector: the report of a sweep that workers ran, and what did not finish.

    python -m interp_jax.experiments.collector runs/superposition/sweep.json

It needs no scheduler, may be run at any time, and ends with status 1 where something has no results yet.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.frozen import read_frozen
from interp_jax.experiments.plan import thaw
from interp_jax.experiments.progress import ChunkProgress, describe_unfinished, run_again, unfinished
from interp_jax.experiments.publish import publish_sweep


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="collector", description="Report on a frozen sweep that workers ran.")
    parser.add_argument("sweep", type=Path, help="a sweep.json, or the directory that holds it")
    options = parser.parse_args(arguments)
    sweep = read_frozen(options.sweep)
    published = publish_sweep(thaw(sweep.path), sweep.directory)
    left = unfinished(published.states)
    if left:
        say_unfinished(left, run_again(left, sweep))
    if published.report:
        print(f"report: {published.report}")
    if left:
        sys.exit(1)


def say_unfinished(left: Sequence[ChunkProgress], command: str) -> None:
    """List what has no results, and the command that runs just that."""
    n = sum(len(state.chunk.members) for state in left)
    lines = [f"{n} runs in {len(left)} chunks have no results:", *(f"  {line}" for line in describe_unfinished(left))]
    print("\n".join([*lines, f"to run just these: {command}"]), file=sys.stderr)


if __name__ == "__main__":
    exit_cleanly(main)
