"""Chunks of a plan, wave after wave; those of a wave go on in step, over one stream."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import rich.progress
from rich.console import Console

from interp_jax.experiments.chunk import HELD, run_unless_held
from interp_jax.experiments.config import build_engine
from interp_jax.experiments.engine import Reader, prepare, readers
from interp_jax.experiments.failures import one_line
from interp_jax.experiments.frozen import Chunk
from interp_jax.experiments.in_step import Steps, alone, in_step
from interp_jax.experiments.plan import Plan, total_steps
from interp_jax.experiments.processes import decided

SAME_ERRORS = 3  # in a row, after which the next chunk would end like that too
PAUSE = 1.0  # seconds between two looks at what others hold


class Hopeless(Exception):
    """The next chunk would end like those before it."""


def run_chunks(plan: Plan, chunks: Sequence[Chunk], directory: Path, console: Console, wait: float = 0.0) -> None:
    """Run chunks of a plan; those that others hold are waited for in the end, for `wait` seconds.

    Raises:
      Exception: what the first chunk that failed raised, when all that could run has.
    """
    if not chunks:
        return
    prepare(build_engine(plan.members[chunks[0].members[0]].config)[0])
    with progress_bar(console) as bar:
        shard = Shard(plan, chunks, directory, bar)
        with contextlib.suppress(Hopeless):
            for wave in waves(chunks):
                shard.run(wave)
    if shard.errors:
        say_failed(shard.errors, len(chunks))
        raise shard.errors[0]
    wait_for_held(plan, shard.held, directory, wait)


def waves(chunks: Sequence[Chunk]) -> list[list[int]]:
    """Indices of chunks that go on in step, in order of the first of them."""
    found: dict[int, list[int]] = {}
    for i, chunk in enumerate(chunks):
        found.setdefault(chunk.wave, []).append(i)
    return list(found.values())


class Shard:
    """Chunks, a line of progress for each, and how they ended: errors in their order, and what others hold."""

    def __init__(self, plan: Plan, chunks: Sequence[Chunk], directory: Path, bar: rich.progress.Progress) -> None:
        self.plan, self.chunks, self.directory, self.bar = plan, chunks, directory, bar
        self.errors: list[Exception] = []
        self.held: list[Chunk] = []
        self.lines = [
            bar.add_task(label(i, chunks), total=total_steps(plan, chunk), visible=i == 0)
            for i, chunk in enumerate(chunks)
        ]

    def run(self, wave: Sequence[int]) -> None:
        """Run some of them in step."""
        with readers() as reader:
            in_step(
                [self.begun(i, reader) for i in wave],
                lambda j, state: self.ended(wave[j], state),
                lambda _, error: self.failed(error),
            )

    def begun(self, i: int, reader: Reader) -> Steps:
        """A chunk, whose line is shown from when it begins."""
        self.bar.update(self.lines[i], visible=True)
        self.bar.start_task(self.lines[i])
        progress = lambda step: self.bar.update(self.lines[i], completed=step)
        return (yield from run_unless_held(self.plan, self.chunks[i], self.directory, progress, reader))

    def ended(self, i: int, state: str) -> None:
        """What is the matter with a chunk that did not fail, if anything is."""
        self.held += [self.chunks[i]] if state == HELD else []
        task = self.bar.tasks[i]
        self.bar.update(task.id, completed=task.total, description=" · ".join(filter(None, (task.description, state))))

    def failed(self, error: Exception) -> None:
        """Keep an error.

        Raises:
          Hopeless: it is the same as those before it.
        """
        self.errors.append(error)
        if [one_line(e) for e in self.errors[-SAME_ERRORS:]] == [one_line(error)] * SAME_ERRORS:
            raise Hopeless


def wait_for_held(plan: Plan, chunks: Sequence[Chunk], directory: Path, seconds: float) -> None:
    """Run the chunks that others hold if they let go of them unfinished within some time: a machine may have died."""

    def still_held(chunk: Chunk) -> bool:
        with readers() as reader:
            return alone(run_unless_held(plan, chunk, directory, lambda step: None, reader)) == HELD

    end = time.monotonic() + seconds
    left = list(chunks)
    while left and decided(time.monotonic() < end):
        time.sleep(PAUSE)
        left = [chunk for chunk in left if still_held(chunk)]
    for chunk in left:
        print(f"chunk {chunk.id}: another worker has it, and goes on with it", file=sys.stderr)


def say_failed(errors: Sequence[Exception], n_chunks: int) -> None:
    """What failed, where it was more than what is raised."""
    if len(errors) > 1:
        print(f"{len(errors)} of {n_chunks} chunks failed:", file=sys.stderr)
        for text, n in Counter(map(one_line, errors)).items():
            print(f"  {n} × {text}", file=sys.stderr)


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
