"""What running a group of a sweep will take: memory from its compiled program, time from a short probe of it.

A device that holds R members and computes b of them at once needs

    bytes(R, b) = fixed + R · state + b · work                        all at once, b = R
                = fixed + (2 R + b) · state + b · work                b after b: results lie beside what they came from

with `fixed` (what members share, constants), `state` (arguments and results of `advance`, which share their memory) and `work`
(temporary arrays). The three are found by compiling populations of one and of two members a device, b = R, and asking the
compiler for their sizes: linear in R where members do not know each other.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import jax

from interp_jax import parts
from interp_jax.errors import InputError
from interp_jax.experiments.built import built
from interp_jax.experiments.config import Engine
from interp_jax.experiments.engine import (
    CPU_BATCH,
    PROBE_STEPS,
    build_programs,
    candidates,
    compile_advance,
    probe,
    reader,
)
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.layout import ALL, layout_of
from interp_jax.experiments.sweep import Member

SHARE = 0.8  # of a device's memory that a plan fills: the rest is for observations and fragmentation


class Memory(NamedTuple):
    """Bytes of a group on a device, see the module; `limit` are there, on each of the `devices` that members are spread over.

    Where each member lies over all devices, a device holds its part of every one: `devices` is then 1.
    """

    fixed: float
    state: float
    work: float
    limit: float
    devices: int

    def bytes(self, members: int, batch: int) -> float:
        """Bytes on a device that holds `members` and computes `batch` of them at once."""
        one_copy = self.fixed + members * self.state + min(batch, members) * self.work
        return float(one_copy + (members + batch) * self.state * (batch < members))

    def fits(self, most_at_once: int) -> int:
        """Members that fit on all devices together, at least one each; `most_at_once` on a device, 0 for all."""
        room = SHARE * self.limit - self.fixed
        at_once = most_at_once * (self.state + self.work)
        if most_at_once and room > at_once:
            n = max((room - at_once) / max(2 * self.state, 1.0), most_at_once)
        else:
            n = room / max(self.state + self.work, 1.0)
        return max(int(n), 1) * self.devices


class Speed(NamedTuple):
    """A chunk's program: members that a device computes at once, seconds to compile it, seconds of a step of the chunk."""

    batch: int
    compile_seconds: float
    step_seconds: float


def measure_memory(group: Sequence[Member]) -> Memory:
    """What the compiler says of a group's program; nothing is run but the making of one or two members a device."""
    experiment = built(group[0].config.experiment, group[0].part)
    n_devices = spread_over(experiment)
    found = [_sizes(experiment, group, n * n_devices) for n in (1, 2)]
    (kept, work), (kept_of_two, work_of_two) = found
    state, temporary = max(kept_of_two - kept, 0), max(work_of_two - work, 0)
    fixed = max(kept - state, 0) + max(work - temporary, 0)
    return Memory(fixed, state, temporary, device_memory(), n_devices)


def _sizes(experiment: Experiment, group: Sequence[Member], n: int, batch: int = 0) -> tuple[int, int]:
    """Bytes on one device that n members keep and work in, all at once or in batches; they repeat where the group has fewer."""
    hypers = parts.stack([group[i % len(group)].part for i in range(n)])
    layout = layout_of(experiment, hypers)
    with reader(experiment, layout.devices) as read:
        init = layout.lift(lambda hypers, _: (experiment.run.init(hypers.seed, hypers), hypers), 1, ALL)
        members = init(layout.hypers(hypers), ())
        compiled = compile_advance(
            experiment, layout, members, read(0), batch or layout.each or n // len(layout.devices)
        )
    sizes = compiled.memory_analysis()
    kept = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return kept, sizes.temp_size_in_bytes


def measure_speed(members: Sequence[Member], engine: Engine) -> Speed:
    """Compile a chunk's program as its worker will, and take a few steps."""
    experiment = built(members[0].config.experiment, members[0].part)
    hypers = parts.stack([m.part for m in members])
    layout = layout_of(experiment, hypers)
    with reader(experiment, layout.devices) as read:
        hypers = layout.hypers(hypers)
        programs = build_programs(experiment, layout, hypers, engine.batch, read)
        steps = min(PROBE_STEPS, experiment.stream_steps or PROBE_STEPS)
        seconds = probe(programs.advance, programs.init(hypers, ()), read(0), steps)
    return Speed(programs.batch, programs.compile_seconds, seconds)


def n_compilations(experiment: Experiment, members: Sequence[Member], engine: Engine) -> int:
    """Programs that a chunk of these members needs: the start, a step for each batch that is tried, what is observed."""
    hypers = parts.stack([m.part for m in members])
    layout = layout_of(experiment, hypers)
    return 2 + len(candidates(layout, layout.hypers(hypers), engine.batch)) + (experiment.stream is not None)


def spread_over(experiment: Experiment) -> int:
    """Devices over which members are spread: all, or 1 where each member lies over all."""
    return 1 if experiment.lay is not None else len(jax.local_devices())


def padded(n: int, devices: int) -> int:
    """Members that a chunk of n computes on this many devices: a multiple of those that it uses."""
    used = min(n, devices)
    return -(-n // used) * used


def most_at_once(engine: Engine) -> int:
    """Members that a device may be asked to compute at once; 0 for all."""
    return engine.batch or (CPU_BATCH if jax.devices()[0].platform == "cpu" else 0)


def device_memory() -> float:
    """Bytes of a device: what it says, or for CPU devices their share of what is free."""
    device = jax.local_devices()[0]
    said = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
    if said:
        return float(said)
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        raise InputError("this machine does not say how much memory is free: set --config.engine.chunk") from None
    return free / len(jax.local_devices())
