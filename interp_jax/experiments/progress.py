"""How far a sweep is, read from its directory alone: no scheduler, no accounting, no message from the workers."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from interp_jax.experiments.failures import recorded_error
from interp_jax.experiments.frozen import Chunk, FrozenSweep, is_done

STATES = ("finished", "running", "failed", "interrupted", "waiting")
TAIL = 1 << 16  # bytes of a metric log that are read first, from its end


class ChunkProgress(NamedTuple):
    """A chunk's state (of `STATES`), steps taken and to take, and in words what is to be known of it: its error or holder."""

    chunk: Chunk
    state: str
    step: int
    steps: int
    note: str = ""


def progress(sweep: FrozenSweep) -> list[ChunkProgress]:
    """The state of every chunk of a sweep."""
    return [chunk_progress(sweep, chunk) for chunk in sweep.chunks]


def chunk_progress(sweep: FrozenSweep, chunk: Chunk) -> ChunkProgress:
    """The state of a chunk: who holds it counts before what is on disk."""
    directory, steps = sweep.place(chunk), int(sweep.config(chunk)["steps"])
    if is_done(sweep.redo, directory):
        return ChunkProgress(chunk, "finished", steps, steps)
    step = 0 if directory.manifest.exists() else last_step(directory.metrics)
    if holder := directory.holder():
        return ChunkProgress(chunk, "running", step, steps, holder)
    if error := recorded_error(directory):
        return ChunkProgress(chunk, "failed", step, steps, error)
    begun = directory.description.exists() and not directory.manifest.exists()
    return ChunkProgress(chunk, "interrupted" if begun else "waiting", step, steps)


def unfinished(states: Sequence[ChunkProgress]) -> list[ChunkProgress]:
    """The chunks that have no results."""
    return [state for state in states if state.state != "finished"]


def run_again(states: Sequence[ChunkProgress], sweep: FrozenSweep) -> str:
    """The command that runs the unfinished chunks and no others on this machine."""
    return f"./launch/worker {sweep.path} --only {' '.join(s.chunk.id for s in unfinished(states))}"


def describe_unfinished(states: Sequence[ChunkProgress], most: int = 20) -> list[str]:
    """A line for each chunk that has no results."""
    left = unfinished(states)
    lines = []
    for state in left[:most]:
        step = f" at step {state.step} of {state.steps}" if state.step else ""
        note = f": {state.note}" if state.note else ""
        n = len(state.chunk.members)
        lines.append(f"{state.chunk.id} ({n} run{'s' if n > 1 else ''}) {state.state}{step}{note}")
    return lines + ([f"and {len(left) - most} more"] if len(left) > most else [])


def last_step(path: Path) -> int:
    """The step of the last whole line of a metric log; 0 where there is none."""
    if not path.exists():
        return 0
    size, length = path.stat().st_size, TAIL
    while True:
        with open(path, "rb") as file:
            file.seek(-min(length, size), os.SEEK_END)
            lines = file.read().split(b"\n")[:-1]
        if len(lines) > 1 or length >= size:
            break
        length *= 8  # a line of very many members
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (ValueError, KeyError, TypeError):
        return 0
