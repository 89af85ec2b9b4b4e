"""The host loop: one chunk of members from its first step, or its last good checkpoint, to its manifest.

Order of operations, which makes `kill -9` harmless. For each span of steps:

  0. let chunks go first that read the same stream and are behind (`in_step.py`);
  1. dispatch `advance`;
  2. write the metrics of the span before, while the device works;
  3. where the span ends at an observation, or enough time has passed, or somebody wants it to stop: write its own metrics,
     then the observation, then the checkpoint.

So all that is on disk up to a checkpoint's step was written before it, and all that is after it is cut off on resume.
Spans do not depend on where a run was interrupted; so a resumed run ends with the same bytes.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from interp_jax.atomic_io import write_json
from interp_jax.errors import InputError
from interp_jax.experiments.complaints import Complaints
from interp_jax.experiments.config import Engine
from interp_jax.experiments.engine import (
    Programs,
    Reader,
    build_programs,
    explain_memory,
    span,
)
from interp_jax.experiments.exit import asked_to_stop, patient, stop_if_asked
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.in_step import Steps
from interp_jax.experiments.layout import Layout, layout_of
from interp_jax.experiments.processes import Wish, agreed, decided, fetch, first
from interp_jax.results.checkpoints import CheckpointStore
from interp_jax.results.metrics import MetricLog, tensorboard_logs
from interp_jax.results.run_directory import ChunkDirectory, read_json
from interp_jax.train.run import ALIVE

NOTHING = -1  # step of the newest checkpoint where there is none
LOG_LINES = 100  # metrics of a run, unless the experiment says how often


class Job(NamedTuple):
    """What the loop needs to run a chunk.

    Attributes:
      id: the chunk's id, which its checkpoints must carry.
      members: hashes.
      experiment: of the chunk's group.
      hypers: the members' parts, stacked [R].
      directory: of the chunk.
      engine: how to run.
      on_nan: "freeze" or "stop".
      progress: called with the number of steps done.
      reader: (experiment, devices) -> what steps read there, the same for chunks of one stream.
    """

    id: str
    members: tuple[str, ...]
    experiment: Experiment
    hypers: Any
    directory: ChunkDirectory
    engine: Engine
    on_nan: str
    progress: Callable[[int], None]
    reader: Reader


class Outcome(NamedTuple):
    """How a chunk ended: step at which each member diverged or -1, int [R]; seconds of compiling; batch."""

    diverged_at: np.ndarray
    compile_seconds: float
    batch: int


def run_chunk(job: Job) -> Steps:
    """A chunk as `in_step` runs it; everything but the manifest is on disk when it returns its `Outcome`."""
    store = CheckpointStore(job.directory.checkpoints, job.id)
    logs = [MetricLog(job.directory.metrics), *tensorboard_logs(job.directory.path / "tensorboard")] if first() else []
    if first() and job.experiment.complain is not None:
        logs.append(Complaints(job.experiment.complain))
    shared = digest_of_shared(job)
    layout = layout_of(job.experiment, job.hypers)
    there = job.experiment._replace(shared=layout.shared(job.experiment.shared))
    read = job.reader(there, layout.devices)
    programs = build_programs(there, layout, layout.hypers(job.hypers), decided(fixed_batch(job)), read)
    if first():
        write_json(job.directory.description, {"members": job.members, "batch": programs.batch, "shared": shared})
    with contextlib.ExitStack() as closing, explain_memory(programs.batch, job.hypers):
        for log in logs:
            closing.callback(log.close)
        begin, members = start(job, store, programs)
        for log in logs:
            log.rewind(begin)
        diverged_at = yield from advance_all(job, store, logs, programs, begin, members)
    return Outcome(diverged_at, programs.compile_seconds, programs.batch)


def digest_of_shared(job: Job) -> str:
    """SHA-256 of what all members read.

    Raises:
      InputError: it is not what the chunk was started with.
    """
    now = digest(job.experiment.shared)
    if job.directory.description.exists():
        before = read_json(job.directory.description, "shared")["shared"]
        if before != now and job.directory.checkpoints.exists():
            raise InputError(
                f"the data that these runs read changed since they began: restore it, or remove {job.directory.path}"
            )
    return now


def digest(arrays: Any) -> str:
    """SHA-256 of a tree of arrays."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def fixed_batch(job: Job) -> int:
    """The batch asked for, else the one the chunk was started with (a resumed run must repeat it), else 0."""
    if job.engine.batch == 0 and job.directory.description.exists():
        return read_json(job.directory.description, "batch")["batch"]
    return job.engine.batch


def start(job: Job, store: CheckpointStore, programs: Programs) -> tuple[int, Any]:
    """The step to go on from and the members there: the newest good checkpoint, or step 0."""
    members = programs.init(programs.layout.hypers(job.hypers), ())
    step, states = newest(store, programs.layout, programs.layout.like(members[0], len(job.members)))
    if step != NOTHING:
        return step, (states, members[1])
    if 0 in job.experiment.observe_at:
        keep(job, store, programs, members, 0)
    return 0, members


def newest(store: CheckpointStore, layout: Layout, like: Any) -> tuple[int, Any]:
    """Step and states of the newest good checkpoint; the first process says which it is, and each reads it."""
    if layout.apart:
        step = decided(or_nothing(store.newest() if first() else None))
        return step, store.load(step, like) if step != NOTHING else None
    restored = store.restore(like) if first() else None
    step = decided(or_nothing(restored.step if restored else None))
    if step == NOTHING:
        return step, None
    return step, layout.states(restored.tree if restored else store.load(step, like))


def or_nothing(step: int | None) -> int:
    """A step as processes tell it to each other."""
    return NOTHING if step is None else step


def spans(experiment: Experiment, begin: int) -> Iterator[tuple[int, int]]:
    """(begin, stop) of each span after `begin`: they end at observations and at multiples of `log_every`.

    Where steps read a stream, each lies within what is made of it at once.
    """
    last = experiment.observe_at[-1]
    every = experiment.log_every or max(last // LOG_LINES, 1)
    stretch = experiment.stream_steps if experiment.stream is not None else last
    ends = sorted({*experiment.observe_at, *range(every, last, every), *range(stretch, last, stretch)})
    for stop in ends:
        if stop > begin:
            yield begin, stop
            begin = stop


def advance_all(
    job: Job, store: CheckpointStore, logs: Any, programs: Programs, done: int, members: Any
) -> Generator[int, None, np.ndarray]:
    """Take all spans after step `done`; returns `diverged_at` [R]."""
    last = job.experiment.observe_at[-1]
    waiting, saved_at, saved = None, time.monotonic(), done
    diverged_at = fetch(members[0].diverged_at)[: len(job.members)]
    for begin, stop in spans(job.experiment, done):
        try:
            yield begin
        except KeyboardInterrupt:
            if begin > saved:
                write_metrics(job, logs, waiting, diverged_at)
                keep(job, store, programs, members, begin)
            raise
        members, metrics, diverged = programs.advance(members, (span(begin, stop), programs.read(begin)))
        diverged_at = write_metrics(job, logs, waiting, diverged_at)
        waiting = (stop, metrics, diverged)
        if (diverged_at != ALIVE).all():
            stop = last
        asked, due = agreed(Wish(asked_to_stop(), time.monotonic() - saved_at > job.engine.checkpoint_seconds))
        if stop in job.experiment.observe_at or asked or due:
            diverged_at, waiting = write_metrics(job, logs, waiting, diverged_at), None
            keep(job, store, programs, members, stop)
            saved_at, saved = time.monotonic(), stop
        job.progress(stop)
        if asked:
            raise KeyboardInterrupt
        if stop == last:
            break
    return diverged_at


def write_metrics(job: Job, logs: Any, waiting: Any, diverged_at: np.ndarray) -> np.ndarray:
    """Log a finished span; returns the members' `diverged_at` after it."""
    if waiting is None:
        return diverged_at
    stop, metrics, diverged = waiting
    n = len(job.members)
    metrics, diverged_at = jax.tree.map(lambda x: x[:n], fetch((metrics, diverged)))
    for log in logs:
        log.append(stop, metrics)
    if job.on_nan == "stop" and (diverged_at != ALIVE).any():
        bad = int(np.argmax(diverged_at != ALIVE))
        raise InputError(
            f"run {job.members[bad]} became non-finite at step {diverged_at[bad]} and --config.on_nan=stop: "
            "lower the learning rate, or let on_nan=freeze go on with the others"
        )
    return diverged_at


def keep(job: Job, store: CheckpointStore, programs: Programs, members: Any, step: int) -> None:
    """Write the observation of a step, where one is due, and the checkpoint."""
    n = len(job.members)
    observing = step in job.experiment.observe_at
    if observing:
        seen = fetch(programs.observe(members, programs.shared))
        seen = {name: value[:n] for name, value in seen.items()} | analyse(job, members)
        if first():
            job.directory.write_observation(step, seen)
    state = programs.layout.saved(members[0], n)
    if first() or programs.layout.apart:
        store.save(step, state, keep=observing)


def analyse(job: Job, members: Any) -> dict[str, np.ndarray]:
    """What the experiment's analysis says of its members, one after the other; of several processes in each."""
    if job.experiment.analyse is None:
        return {}
    on_host, each = fetch(members), []
    with patient(False):
        for i in range(len(job.members)):
            stop_if_asked()
            state, hypers = jax.tree.map(lambda x: x[i], on_host)  # noqa: B023
            each.append(job.experiment.analyse(state, hypers, job.experiment.shared))
    return {name: np.stack([found[name] for found in each]) for name in each[0]}
