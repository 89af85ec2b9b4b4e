"""What is paid besides computing: by a process for each run, by the engine for each chunk, by a checkpoint."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from interp_jax.experiments.built import built
from interp_jax.experiments.engine import cores
from interp_jax.experiments.plan import freeze, make_plan, thaw
from interp_jax.experiments.waves import run_chunks
from interp_jax.launch.throughput import of_seeds, subject
from interp_jax.results.checkpoints import CheckpointStore
from interp_jax.results.run_directory import chunk_directory, read_json

RUNS = 8  # that are trained either way


class Ways(NamedTuple):
    """Wall seconds to train the same runs, start and all: by a process each, as many at once as cores, and by one for all."""

    runs: int
    steps: int
    apart: float
    together: float


class Chunks(NamedTuple):
    """Wall seconds a chunk, apart from its steps and from compiling: reading, checkpoints, observations, the manifest."""

    chunks: int
    seconds: float


class Saved(NamedTuple):
    """A checkpoint of so many members: seconds to write and to verify and read it, and its bytes on disk."""

    members: int
    write: float
    read: float
    bytes: int


def ways(name: str, steps: int) -> Ways:
    """The same runs by a process each, and by one worker; every process starts Python and has its programs from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):  # the first time fills the cache of compiled programs
            apart = [frozen(Path(folder) / f"apart{number}-{seed}", name, steps, [seed]) for seed in range(RUNS)]
            together = frozen(Path(folder) / f"together{number}", name, steps, range(RUNS))
            rounds = [apart[i : i + cores()] for i in range(0, RUNS, cores())] if number else [apart[:1]]
            seconds = wall(rounds, 1), wall([[together]], cores())
    return Ways(RUNS, steps, *seconds)


def frozen(directory: Path, name: str, steps: int, seeds: Sequence[int], **changes: Any) -> Path:
    """A frozen sweep of these seeds."""
    members = [subject(name, steps=steps, seed=seed, **changes) for seed in seeds]
    directory.mkdir()
    return freeze(make_plan(members[0].config.experiment, members, "", ()), directory)


def wall(rounds: list[list[Path]], devices: int) -> float:
    """Seconds that workers take on frozen sweeps: those of a round at once, on so many devices each."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    for sweeps in rounds:
        command = [sys.executable, "-m", "interp_jax.experiments.worker"]
        running = [
            subprocess.Popen([*command, str(path)], env=environment, stderr=subprocess.DEVNULL) for path in sweeps
        ]
        if any(process.wait() for process in running):
            raise RuntimeError(f"a worker on one of {sweeps} failed")
    return time.monotonic() - started


def chunks(name: str, n: int) -> Chunks:
    """The engine's share of n chunks of one run of two steps: by the clock, without what their manifests say of compiling."""
    with tempfile.TemporaryDirectory() as folder:
        path = frozen(Path(folder) / "sweep", name, 2, range(n + 1), **{"engine.chunk": 1, "engine.batch": 1})
        plan, console = thaw(path), Console(quiet=True)
        run_chunks(plan, plan.chunks[:1], path.parent, console)  # the first one compiles what no cache has
        started = time.monotonic()
        run_chunks(plan, plan.chunks[1:], path.parent, console)
        seconds = time.monotonic() - started
        places = [chunk_directory(path.parent, chunk.id) for chunk in plan.chunks[1:]]
        compiling = sum(read_json(place.manifest)["seconds"]["compile"] for place in places)
    return Chunks(n, (seconds - compiling) / n)


def saved(name: str, n: int) -> Saved:
    """Write and read a checkpoint of n members' states."""
    one = subject(name)
    experiment = built(one.config.experiment, one.part)
    hypers = of_seeds(one, n)
    shapes = jax.eval_shape(jax.vmap(lambda h: experiment.run.init(h.seed, h)), hypers)
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: (100 * rng.normal(size=x.shape)).astype(x.dtype), shapes
    )  # zeros would be compressed
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(folder, "x")
        started = time.monotonic()
        store.save(1, state)
        written = time.monotonic()
        store.load(1, state)
        ended = time.monotonic()
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return Saved(n, written - started, ended - written, size)
