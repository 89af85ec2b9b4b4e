"""How many runs train at once, and how fast: member-steps a second of populations of any size, on all devices of this machine.

A population's step is timed as its worker runs it: the experiment's own `advance`, lifted by its layout, batches chosen by the
engine's probe. Times are of the fastest of some spans.
"""

import dataclasses
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from interp_jax import parts
from interp_jax.errors import InputError
from interp_jax.experiments.built import built
from interp_jax.experiments.config import build_engine, compose
from interp_jax.experiments.engine import Programs, build_programs, reader, span
from interp_jax.experiments.layout import layout_of
from interp_jax.experiments.sweep import Member, member
from interp_jax.launch.estimates import measure_memory, most_at_once

SPANS = 3  # of which the fastest counts
LONG, VERY_LONG = 0.3, 20.0  # seconds that a span is to take at least, and at which what is around it does not matter
COLLECTIVES = re.compile(r"= [^\n]*?(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
SATURATED = 1.05  # twice the members are to bring so much, else more bring nothing

STEPS = 1_000_000  # of a run that is never finished: no schedule ends within what is timed
SUBJECTS: dict[str, dict[str, Any]] = {
    "superposition": {"experiment": "interp_jax.experiments.superposition"},
    "transformer": {
        "experiment": "interp_jax.experiments.grow",
        "stream": "repeats",
        "batch_size": 8,
        "model.n_layers": 2,
        "model.d_model": 64,
        "model.n_heads": 4,
        "model.d_head": 16,
        "model.d_vocab": 64,
        "model.n_context": 64,
        "measure.sample_length": 32,
    },
    "dictionary": {
        "experiment": "interp_jax.experiments.known_features",
        "data.n_features": 512,
        "data.d_model": 96,
        "dictionary.kind": "batch_topk",
        "dictionary.n_features": 512,
        "dictionary.most": 32,
        "dictionary.k": 12,
    },
}


class Rate(NamedTuple):
    """Members, how many a device computes at once, seconds of a step, of compiling, and collectives in the program."""

    members: int
    batch: int
    step: float
    compile: float
    collectives: int

    @property
    def member_steps(self) -> float:
        """Steps of members a second."""
        return self.members / self.step


def config_of(name: str, **changes: Any) -> ConfigDict:
    """The config of a run that is timed."""
    overrides = {"steps": STEPS, **SUBJECTS[name], **changes}
    return compose(overrides.pop("experiment"), **overrides)


def subject(name: str, **changes: Any) -> Member:
    """One of the runs that are timed."""
    return member(config_of(name, **changes))


def of_seeds(one: Member, n: int) -> Any:
    """The parts of n members that differ by their seeds, stacked [R]."""
    repeated = jax.tree.map(lambda leaf: np.repeat(leaf, n), parts.stack([one.part]))
    return dataclasses.replace(repeated, seed=np.arange(n, dtype=np.int32))


def rate(one: Member, n: int, batch: int = 0) -> Rate:
    """Time a population of n members; batch 0 is chosen as for a chunk."""
    experiment = built(one.config.experiment, one.part)
    hypers = of_seeds(one, n)
    layout = layout_of(experiment, hypers)
    with reader(experiment, layout.devices) as read:
        placed = layout.hypers(hypers)
        programs = build_programs(experiment, layout, placed, batch, read)
        step = seconds_of_step(programs, placed, experiment.stream_steps or STEPS)
    text = programs.advance.as_text()
    return Rate(n, programs.batch, step, programs.compile_seconds, len(COLLECTIVES.findall(text)))


def seconds_of_step(programs: Programs, hypers: Any, most_steps: int) -> float:
    """Seconds of a step, the program being warm: spans grow until one is long; one that is very long is taken but once more."""
    members, data = programs.init(hypers, ()), programs.read(0)
    steps, best = 1, np.inf
    while True:
        started = time.monotonic()
        members, *_ = jax.block_until_ready(programs.advance(members, (span(0, steps), data)))
        seconds = time.monotonic() - started
        if seconds > LONG or steps >= most_steps:
            break
        steps = min(steps * 4, most_steps)
    for _ in range(1 if seconds > VERY_LONG else SPANS):
        started = time.monotonic()
        members, *_ = jax.block_until_ready(programs.advance(members, (span(0, steps), data)))
        best = min(best, time.monotonic() - started)
    return best / steps


def fitting(one: Member) -> int:
    """Members that train at once on all devices, by the compiler's account of their memory."""
    return measure_memory([one]).fits(most_at_once(build_engine(one.config)[0]))


def sizes(one: Member, most: int, factor: int = 0) -> Iterator[Rate]:
    """Populations of 1, 2, 4, … members, up to `most`, or where twice as many are no faster twice running.

    With a factor, so many times as many each time, up to `most` itself in any case.
    """
    n, before, flat = 1, 0.0, 0
    while n <= most and (factor or flat < 2):
        try:
            found = rate(one, n)
        except InputError as error:
            if "out of device memory" not in str(error):
                raise
            return
        yield found
        flat = flat + 1 if found.member_steps < SATURATED * before else 0
        n, before = next_size(n, most, factor), max(before, found.member_steps)


def next_size(n: int, most: int, factor: int) -> int:
    """How many members are tried after n."""
    larger = (factor or 2) * n
    return most if factor and n < most < larger else larger
