"""The engine room: devices, compiled programs of a population, and how many members a device computes at once.

Environment variables must be set before JAX's backend starts, so `prepare` is the first thing a job calls.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from interp_jax.errors import InputError
from interp_jax.experiments.ahead import Ahead
from interp_jax.experiments.config import Engine
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.layout import ALL, FIRST, NONE, Layout
from interp_jax.experiments.processes import decided, put
from interp_jax.train.population import run_mesh
from interp_jax.train.run import Span

PROBE_STEPS = 10
LONG_STEP = 2.0  # seconds, beside which it does not matter that a program is cold
Read = Callable[[int], Any]  # first step of a span -> what its steps read
Reader = Callable[[Experiment, list[jax.Device]], Read]
CPU_BATCH = 32  # the most that a CPU is asked to compute at once: beyond, a toy's arrays leave the cache


def prepare(engine: Engine) -> None:
    """Set what must be set before the backend starts: virtual CPU devices, determinism, precision."""
    flags = os.environ.get("XLA_FLAGS", "")
    devices = engine.cpu_devices or cores()
    if "xla_force_host_platform_device_count" not in flags:
        flags += f" --xla_force_host_platform_device_count={devices}"
        if devices > 1 and "xla_cpu_multi_thread_eigen" not in flags:
            flags += " --xla_cpu_multi_thread_eigen=false"
    if engine.deterministic and "xla_gpu_deterministic_ops" not in flags:
        flags += " --xla_gpu_deterministic_ops=true"
    os.environ["XLA_FLAGS"] = flags.strip()
    jax.config.update("jax_default_matmul_precision", None if engine.precision == "default" else engine.precision)


def cores() -> int:
    """Cores that this process may use: as an engine says, its share of a cluster's node, else those it may run on."""
    given = os.environ.get("INTERP_JAX_CORES") or os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isdecimal():
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Programs(NamedTuple):
    """The compiled programs of a chunk. Members are a pair (state, hypers), both with a leading R axis.

    Attributes:
      layout: where members lie.
      init: hypers -> members.
      advance: (members, (Span, shared)) -> (members, metrics, diverged_at); takes the memory of `members`.
      observe: (members, shared) -> {name: array}.
      shared: what all members read, for `observe`.
      read: first step of a span -> what its steps read: what is shared, or the stretch of the stream that they lie in.
      batch: members that a device computes at once.
      compile_seconds: spent on `advance`, all candidates of the probe included.
    """

    layout: Layout
    init: Any
    advance: Any
    observe: Any
    shared: Any
    read: Read
    batch: int
    compile_seconds: float


def build_programs(experiment: Experiment, layout: Layout, hypers: Any, batch: int, read: Read) -> Programs:
    """Compile a chunk's programs for `hypers` (placed by its layout); batch 0 is chosen by a probe."""
    begin = lambda hypers, _: (experiment.run.init(hypers.seed, hypers), hypers)
    init = layout.lift(begin, batch or 1, ALL)
    with explain_memory(batch, hypers):
        members, data = init(hypers, ()), read(0)
        started = time.monotonic()
        compiled = {
            b: compile_advance(experiment, layout, members, data, b) for b in candidates(layout, members, batch)
        }
        seconds = time.monotonic() - started
        del members  # each probe takes its own: there may be room for no more than one such population
        steps = min(PROBE_STEPS, experiment.stream_steps or PROBE_STEPS)
        chosen = (
            decided(min(compiled, key=lambda b: probe(compiled[b], init(hypers, ()), data, steps)))
            if len(compiled) > 1
            else next(iter(compiled))
        )
    observe = layout.lift(lambda member, shared: experiment.observe(*member, shared), chosen, NONE)
    return Programs(layout, init, compiled[chosen], observe, experiment.shared, read, chosen, seconds)


@contextlib.contextmanager
def reader(experiment: Experiment, devices: list[jax.Device]) -> Iterator[Read]:
    """What steps read, on all devices; the last stretch of a stream is kept, since several spans may lie in it."""
    if experiment.stream is None:
        yield lambda first: experiment.shared
        return
    everywhere, length = NamedSharding(run_mesh(devices), PartitionSpec()), experiment.stream_steps
    make = jax.jit(experiment.stream, out_shardings=everywhere)
    load = (lambda begin: ()) if experiment.load is None else lambda begin: (experiment.load(begin),)
    ahead = Ahead(lambda begin: put(load(begin), everywhere), length, experiment.observe_at[-1])

    @lru_cache(maxsize=1)
    def stretch(begin: int) -> Any:
        data = make(experiment.shared, np.int32(begin), *ahead.take(begin))
        if experiment.refuse is not None:
            experiment.refuse(data)
        return data

    with contextlib.closing(ahead):
        yield lambda first: stretch(first // length * length)


@contextlib.contextmanager
def readers() -> Iterator[Reader]:
    """What gives chunks of one stream their `reader`: those on the same devices have the same."""
    made: dict[tuple[jax.Device, ...], Read] = {}
    with contextlib.ExitStack() as left:

        def of(experiment: Experiment, devices: list[jax.Device]) -> Read:
            if tuple(devices) not in made:
                made[tuple(devices)] = left.enter_context(reader(experiment, devices))
            return made[tuple(devices)]

        yield of


def compile_advance(experiment: Experiment, layout: Layout, members: Any, data: Any, batch: int) -> Any:
    """The compiled `advance` of a population."""

    def advance(member: Any, shared: Any) -> Any:
        (state, hypers), (span, data) = member, shared
        state, metrics = experiment.run.advance(state, hypers, span, data)
        return (state, hypers), metrics, state.diverged_at

    lifted = layout.lift(advance, batch, FIRST, True)
    return lifted.lower(members, (span(0, 0), data)).compile()


def span(first: int, stop: int) -> Span:
    """A span as the arrays that a compiled program takes."""
    return Span(np.int32(first), np.int32(stop))


def candidates(layout: Layout, members: Any, batch: int) -> list[int]:
    """The batches worth timing: on a CPU one by one against a cache-sized batch; on an accelerator all at once."""
    per_device = layout.each or population_size(members) // len(layout.devices)
    if batch:
        return [min(batch, per_device)]
    if jax.devices()[0].platform != "cpu":
        return [per_device]
    return sorted({1, max(b for b in range(1, CPU_BATCH + 1) if per_device % b == 0)})


def probe(compiled: Any, members: Any, data: Any, steps: int) -> float:
    """Seconds of a step, whose members are lost: of a few, the program being warm, or of the first where that takes long."""

    def seconds(steps: int) -> float:
        nonlocal members
        started = time.monotonic()
        members, *_ = jax.block_until_ready(compiled(members, (span(0, steps), data)))
        return (time.monotonic() - started) / steps

    first = seconds(1)
    return first if first > LONG_STEP else seconds(steps)


def population_size(members: Any) -> int:
    """R, the length of the leading axis."""
    return jax.tree.leaves(members)[0].shape[0]


@contextlib.contextmanager
def explain_memory(batch: int, members: Any) -> Iterator[None]:
    """Turns "out of memory" into one line that says how to make the job smaller."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        n = population_size(members)
        raise InputError(
            f"out of device memory with {n} members, {batch or 'all'} at once: "
            f"try --config.engine.batch={max((batch or n) // 2, 1)} or --config.engine.chunk={max(n // 2, 1)}"
        ) from error
