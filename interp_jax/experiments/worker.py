"""The worker: runs shard i of n of a frozen sweep. Every launch engine starts this command and only sets i and n.

    python -m interp_jax.experiments.worker runs/superposition/sweep.json --shard 0/1

Chunks that are finished, or that another living worker holds, are passed over; so a shard may be started twice, or again.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.progress
from rich.console import Console

from interp_jax import parts
from interp_jax.atomic_io import write_json
from interp_jax.errors import InputError
from interp_jax.experiments.config import build_engine, load_experiment
from interp_jax.experiments.engine import prepare
from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.loop import Job, run_chunk
from interp_jax.experiments.plan import FILE, Chunk, Plan, is_done, thaw
from interp_jax.results.manifest import manifest
from interp_jax.results.run_directory import ChunkDirectory, chunk_directory
from interp_jax.train.run import ALIVE


def run_shard(path: Path, shard: int, n_shards: int, console: Console) -> None:
    """Run the chunks shard, shard + n, … of the sweep frozen at `path`.

    Raises:
      InputError: the sweep is missing, damaged or edited; what a chunk's run raises.
    """
    path = path / FILE if path.is_dir() else path
    plan = thaw(path)
    chunks = plan.chunks[shard::n_shards]
    if not chunks:
        return
    engine, _ = build_engine(plan.members[chunks[0].members[0]].config)
    prepare(engine)
    steps = {chunk.id: total_steps(plan, chunk) for chunk in chunks}
    with progress_bar(console) as bar:
        bars = {c.id: bar.add_task(label(i, chunks), total=steps[c.id], visible=i == 0) for i, c in enumerate(chunks)}
        for chunk in chunks:
            bar.update(bars[chunk.id], visible=True)
            bar.start_task(bars[chunk.id])
            directory = chunk_directory(path.parent, chunk.id)
            with directory.lock() as held:
                if held and not is_done(plan, directory):
                    run_one(plan, chunk, directory, lambda step, task=bars[chunk.id]: bar.update(task, completed=step))
            bar.update(bars[chunk.id], completed=steps[chunk.id])


def run_one(plan: Plan, chunk: Chunk, directory: ChunkDirectory, progress: object) -> None:
    """Run a chunk and write its manifest, which makes it finished."""
    members = [plan.members[h] for h in chunk.members]
    config = members[0].config
    engine, _ = build_engine(config)
    experiment = built(config.experiment, members[0].part)
    if directory.manifest.exists():
        directory.set_aside()
    hypers = parts.stack([m.part for m in members])
    job = Job(chunk.id, chunk.members, experiment, hypers, directory, engine, config.on_nan, progress)
    outcome = run_chunk(job)
    content = manifest(config.to_dict(), chunk.id, outcome.seconds)
    content |= {"members": chunk.members, "batch": outcome.batch, "diverged_at": outcome.diverged_at.tolist()}
    write_json(directory.manifest, {**content, "redo": plan.redo})
    directory.forget_old()
    if n_bad := int((outcome.diverged_at != ALIVE).sum()):
        first = int(outcome.diverged_at[outcome.diverged_at != ALIVE].min())
        print(
            f"{n_bad} of {len(members)} runs became non-finite, the first at step {first}: kept as they were before",
            file=sys.stderr,
        )


@functools.lru_cache(maxsize=1)
def built(name: str, part: Any) -> Experiment:
    """The experiment of a group; what it reads from disk is read once."""
    return load_experiment(name).experiment(part)


def total_steps(plan: Plan, chunk: Chunk) -> int:
    """Steps of a chunk's runs."""
    return plan.members[chunk.members[0]].part.steps


def label(index: int, chunks: Sequence[Chunk]) -> str:
    """What the progress bar says of a chunk."""
    n = len(chunks[index].members)
    return f"chunk {index + 1} of {len(chunks)} · {n} run{'s' if n > 1 else ''}"


def progress_bar(console: Console) -> rich.progress.Progress:
    """One line per chunk: steps done, rate and the time that is left."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("steps ·"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("· left"),
        rich.progress.TimeRemainingColumn(),
    )
    return rich.progress.Progress(*columns, console=console)


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise InputError(f"--shard takes i/n with 0 <= i < n, such as 0/4; got {text!r}")
    return int(i), int(n)


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="worker", description="Run one shard of a frozen sweep.")
    parser.add_argument("sweep", type=Path, help="a sweep.json, or the directory that holds it")
    parser.add_argument("--shard", default="0/1", help="i/n: which of how many shards")
    options = parser.parse_args(arguments)
    run_shard(options.sweep, *parse_shard(options.shard), Console(stderr=True))


if __name__ == "__main__":
    exit_cleanly(main)
