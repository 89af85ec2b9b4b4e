"""What the loop adds to the engine: an analysis on the host, of one member after the other; a stream that all members read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.experiments.config import Engine
from interp_jax.experiments.engine import reader
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.loop import Job, analyse, run_chunk, spans
from interp_jax.parts import hyper, part, stack
from interp_jax.results.run_directory import ChunkDirectory
from interp_jax.train.run import ALIVE, Moved, RunState, stepwise


@part
class Part:
    seed: int = hyper(0)
    steps: int = 1


def job_of(directory, analysis, seeds=(4, 7)):
    def observe(state, hypers, shared):
        return {"seen": state.seed + shared}

    experiment = Experiment(untrained(), observe, (1,), jnp.int32(10), analyse=analysis)
    members = tuple(map(str, seeds))
    hypers = stack([Part(seed=seed) for seed in seeds])
    return Job("id", members, experiment, hypers, ChunkDirectory(directory), Engine(), "freeze", lambda step: None)


def test_an_analysis_is_kept_beside_what_was_observed(tmp_path):
    called = []

    def analysis(state, hypers, shared):
        assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((state, hypers, shared)))
        called.append(int(state.seed))
        return {"said": np.array(f"seed {int(hypers.seed)}"), "twice": np.full(3, 2 * int(state.seed) + int(shared))}

    job = job_of(tmp_path, analysis)
    run_chunk(job)
    (seen,) = job.directory.observations().values()
    assert called == [4, 7]
    assert seen["seen"].tolist() == [14, 17] and seen["said"].tolist() == ["seed 4", "seed 7"]
    assert seen["twice"].tolist() == [[18] * 3, [24] * 3]


def test_without_an_analysis_nothing_is_added(tmp_path):
    assert analyse(job_of(tmp_path, None), ()) == {}


# --- a stream that all members read


def streamed_job(directory, stream_steps, log_every=0):
    """A run that adds up what it reads of each step: t squared, made for all members at once, with its first step."""

    def init(seed, hypers):
        return RunState(jnp.asarray(seed, jnp.int32), jnp.float32(0), (), jnp.int32(ALIVE))

    def step(state, hypers, t, data):
        first, squares = data
        read = squares[t - first]
        return Moved(state.replace(params=state.params + read), {"read": read}, jnp.bool_(True))

    def stream(shared, first):
        return first, shared * (first + jnp.arange(stream_steps, dtype=jnp.float32)) ** 2

    def observe(state, hypers, shared):
        return {"sum": state.params, "shared": shared}

    experiment = Experiment(
        stepwise(init, step), observe, (5, 12), jnp.float32(2), stream, stream_steps, log_every=log_every
    )
    hypers = stack([Part(seed=seed, steps=12) for seed in range(3)])
    return Job(
        "id", ("a", "b", "c"), experiment, hypers, ChunkDirectory(directory), Engine(), "freeze", lambda step: None
    )


@pytest.mark.parametrize("stream_steps", [1, 4, 50])
def test_steps_read_what_was_made_for_them_at_once(tmp_path, stream_steps):
    job = streamed_job(tmp_path, stream_steps, log_every=7)
    run_chunk(job)
    seen = job.directory.observations()
    for step in (5, 12):
        assert seen[step]["sum"].tolist() == [2.0 * sum(t * t for t in range(step))] * 3
        assert seen[step]["shared"].tolist() == [2.0] * 3, "observations read what is shared"


def test_no_span_is_longer_than_what_is_made_at_once(tmp_path):
    """And what is made is kept while spans lie in it."""
    with reader(streamed_job(tmp_path, 4).experiment, jax.devices()[:1]) as read:
        assert read(5)[1] is read(7)[1] and read(5)[0] == 4 and read(8)[1] is not read(7)[1]
    found = list(spans(streamed_job(tmp_path, 4, log_every=7).experiment, 0))
    assert found == [(0, 4), (4, 5), (5, 7), (7, 8), (8, 12)]
    assert list(spans(streamed_job(tmp_path, 50, log_every=7).experiment, 5)) == [(5, 7), (7, 12)]
