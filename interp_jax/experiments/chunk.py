"""One chunk, from its lock to its manifest, as a generator that `in_step` can run beside others."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from interp_jax import parts
from interp_jax.atomic_io import write_json
from interp_jax.experiments.built import built
from interp_jax.experiments.compilation_cache import counted, described
from interp_jax.experiments.config import build_engine
from interp_jax.experiments.engine import Reader
from interp_jax.experiments.failures import record_failure
from interp_jax.experiments.frozen import Chunk, is_done
from interp_jax.experiments.in_step import Steps, during
from interp_jax.experiments.loop import Job, run_chunk
from interp_jax.experiments.plan import Plan
from interp_jax.experiments.processes import decided, first
from interp_jax.results.manifest import manifest
from interp_jax.results.run_directory import ChunkDirectory, chunk_directory
from interp_jax.train.run import ALIVE

HELD, DONE = "another worker has it", "was finished"


def run_unless_held(
    plan: Plan, chunk: Chunk, directory: Path, progress: Callable[[int], None], reader: Reader
) -> Steps:
    """Run a chunk and return "", or what is the matter with it (`HELD`, `DONE`). Where it fails, that is kept beside it."""
    place = chunk_directory(directory, chunk.id)
    with place.lock() if first() else contextlib.nullcontext(True) as held:
        state = (HELD, DONE, "")[decided(0 if not held else 1 if is_done(plan.redo, place) else 2)]
        if state:
            return state
        try:
            yield from run_one(plan, chunk, place, progress, reader)
        except Exception as error:
            if first():
                record_failure(place, chunk.members, error)
            raise
    return ""


def run_one(
    plan: Plan, chunk: Chunk, directory: ChunkDirectory, progress: Callable[[int], None], reader: Reader
) -> Generator[int, None, None]:
    """Run a chunk and write its manifest, which makes it finished."""
    members = [plan.members[h] for h in chunk.members]
    config = members[0].config
    engine, _ = build_engine(config)
    experiment = built(config.experiment, members[0].part)
    if first():
        if directory.manifest.exists():
            directory.set_aside()
        directory.failure.unlink(missing_ok=True)
    hypers = parts.stack([m.part for m in members])
    job = Job(chunk.id, chunk.members, experiment, hypers, directory, engine, config.on_nan, progress, reader)
    effort = Effort(Counter(), Counter())
    outcome = yield from during(effort.spent, run_chunk(job))
    if not first():
        return
    seconds = {"total": effort.seconds["total"], "compile": outcome.compile_seconds}
    content = manifest(config.to_dict(), chunk.id, seconds)
    content |= {
        "members": chunk.members,
        "batch": outcome.batch,
        "processes": jax.process_count(),
        "diverged_at": outcome.diverged_at.tolist(),
    }
    write_json(directory.manifest, {**content, "compilation_cache": described(effort.cache), "redo": plan.redo})
    directory.forget_old()
    if n_bad := int((outcome.diverged_at != ALIVE).sum()):
        earliest = int(outcome.diverged_at[outcome.diverged_at != ALIVE].min())
        print(
            f"{n_bad} of {len(members)} runs became non-finite, the first at step {earliest}: kept as they were before",
            file=sys.stderr,
        )


class Effort(NamedTuple):
    """What a chunk takes while it is its turn: hits and misses of the compilation cache, and seconds ("total")."""

    cache: Counter[str]
    seconds: Counter[str]

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """Counts what the block takes."""
        started = time.monotonic()
        with counted(self.cache):
            yield
        self.seconds["total"] += time.monotonic() - started
