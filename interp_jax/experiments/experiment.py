"""What an experiment is: a module with three names, sometimes more. The engine around it knows no others.

    Config                    a part with `seed: int = hyper(0)` and `steps: int`; its sections are parts (model, data, …)
    experiment(config)        -> Experiment: the pure functions of one group (equal static fields), and what it shares
    report(groups)            -> Page: what to say of a list of `GroupResult`, whatever groups there were
    members(config)           -> optional: the ConfigDicts of other experiments that a job of this one is made of
    reads(config)             -> optional: a config that tells apart what a group reads. Groups in which it is equal read one
                              stream: they go on in step, and `experiment` is handed what they read as its second argument
    reading(config)           -> with `reads`: what that is, made of such a config

A config names the module, `experiment="interp_jax.experiments.superposition"`; any importable module will do.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.train.run import ALIVE, Hypers, Run, RunState


class Experiment(NamedTuple):
    """One group of runs.

    Attributes:
      run: `init` and `advance` of a member.
      observe: `(state, hypers, shared) -> {name: array}`, pure, computed for every member at each step of `observe_at`.
        Kept in observations/<step>.npz, each array with a leading member axis.
      observe_at: steps, increasing; the last is the run's number of steps. Checkpoints are kept at these steps.
      shared: arrays that all members read (a corpus); not part of the state, not hashed.
      stream: `(shared, first) -> data`, pure: what the members read in the `stream_steps` steps from `first` on, a multiple of
        these, made once for all of them. `advance` is then handed that in place of `shared`, with spans within those steps.
      stream_steps: see `stream`.
      refuse: `(data)`, on the host, of each stretch of a stream before it is read: raises `InputError` for what cannot be used.
      complain: `(step, metrics [R]) -> str`, on the host, of each line of metrics: what to warn of at once, "" mostly.
      load: `first -> arrays`, on the host: what a stream is made of that lies on disk, a function of the step alone. `stream`
        is then handed it as `(shared, first, arrays)`. It is called in a thread, some stretches ahead.
      lay: of one member that is larger than a device: its state's shapes -> how each leaf lies on a mesh of all devices.
      log_every: steps between lines of metrics.jsonl; 0 makes a hundred lines.
      analyse: `(state, hypers, shared) -> {name: array}` of one member, on the host and after `observe`, whose names it may not
        repeat: for what is itself a population of runs, such as a grid of patches. Kept beside what was observed. Where several
        processes share a chunk it is called in each: what it writes itself it shares out among them (`processes.py`).
    """

    run: Run
    observe: Callable[[RunState, Hypers, Any], dict[str, Any]]
    observe_at: tuple[int, ...]
    shared: Any = ()
    stream: Callable[..., Any] | None = None
    stream_steps: int = 0
    refuse: Callable[[Any], None] | None = None
    complain: Callable[[int, dict[str, np.ndarray]], str] | None = None
    load: Callable[[int], Any] | None = None
    lay: Callable[[RunState], Any] | None = None
    log_every: int = 0
    analyse: Callable[[RunState, Hypers, Any], dict[str, np.ndarray]] | None = None


def untrained() -> Run:
    """The run of an experiment that trains nothing: its state is a seed, and a step does nothing."""

    def init(seed: Any, hypers: Hypers) -> RunState:
        return RunState(jnp.asarray(seed, jnp.int32), (), (), jnp.int32(ALIVE))

    def advance(state: RunState, hypers: Hypers, span: Any, shared: Any) -> tuple[RunState, dict[str, Any]]:
        return state, {}

    return Run(init, advance)


class GroupResult(NamedTuple):
    """What is on disk of one group: all its finished members, from however many chunks.

    Attributes:
      config: the group's part with leaves [R] (as `parts.stack` makes it).
      hashes: content hash of each member's config.
      diverged_at: step at which each member diverged, or -1; int [R].
      observations: {step: {name: array [R, ...]}}, what `observe` returned (scalars are [R]).
      metrics: {name: array [T, R]}, means over the spans that end at `metric_steps` [T].
      metric_steps: int [T].
      directories: the chunk directories the members came from, in order of members; checkpoints lie inside.
      seconds: each member's share of its chunk's wall-clock time; [R].
    """

    config: Any
    hashes: tuple[str, ...]
    diverged_at: np.ndarray
    observations: dict[int, dict[str, np.ndarray]]
    metrics: dict[str, np.ndarray]
    metric_steps: np.ndarray
    directories: tuple[str, ...]
    seconds: np.ndarray


def select(group: GroupResult, hashes: Collection[str]) -> GroupResult:
    """The members of a group whose hashes are among `hashes`."""
    index = np.array([i for i, h in enumerate(group.hashes) if h in hashes], int)
    return GroupResult(
        config=jax.tree.map(lambda leaf: leaf[index], group.config),
        hashes=tuple(group.hashes[i] for i in index),
        diverged_at=group.diverged_at[index],
        observations={t: {k: v[index] for k, v in seen.items()} for t, seen in group.observations.items()},
        metrics={k: v[:, index] for k, v in group.metrics.items()},
        metric_steps=group.metric_steps,
        directories=tuple(group.directories[i] for i in index),
        seconds=group.seconds[index],
    )
