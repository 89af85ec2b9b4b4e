"""What the loop adds to the engine: an analysis on the host, of one member after the other; a stream that all members read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.experiments.engine import reader
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.loop import Job, analyse, spans
from interp_jax.parts import hyper, part, stack
from interp_jax.train.run import ALIVE, Moved, RunState, stepwise
from tests.experiments.one_chunk import run_alone


@part
class Part:
    seed: int = hyper(0)
    steps: int = 1


def of_seeds(analysis, seeds=(4, 7)):
    """An experiment that trains nothing, its hypers and names."""

    def observe(state, hypers, shared):
        return {"seen": state.seed + shared}

    experiment = Experiment(untrained(), observe, (1,), jnp.int32(10), analyse=analysis)
    return experiment, stack([Part(seed=seed) for seed in seeds]), tuple(map(str, seeds))


def test_an_analysis_is_kept_beside_what_was_observed(tmp_path):
    called = []

    def analysis(state, hypers, shared):
        assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((state, hypers, shared)))
        called.append(int(state.seed))
        return {"said": np.array(f"seed {int(hypers.seed)}"), "twice": np.full(3, 2 * int(state.seed) + int(shared))}

    (seen,) = run_alone(*of_seeds(analysis), tmp_path).observations().values()
    assert called == [4, 7]
    assert seen["seen"].tolist() == [14, 17] and seen["said"].tolist() == ["seed 4", "seed 7"]
    assert seen["twice"].tolist() == [[18] * 3, [24] * 3]


def test_without_an_analysis_nothing_is_added():
    experiment, hypers, names = of_seeds(None)
    assert analyse(Job("id", names, experiment, hypers, *[None] * 5), ()) == {}


# --- a stream that all members read


def streamed(stream_steps, log_every=0):
    """Runs that each adds up what it reads of each step: t squared, made for all members at once, with its first step."""

    def init(seed, hypers):
        return RunState(jnp.asarray(seed, jnp.int32), jnp.float32(0), (), jnp.int32(ALIVE))

    def step(state, hypers, t, data):
        first, squares = data
        read = squares[t - first]
        return Moved(lambda: state.replace(params=state.params + read), {"read": read}, jnp.bool_(True))

    def stream(shared, first):
        return first, shared * (first + jnp.arange(stream_steps, dtype=jnp.float32)) ** 2

    def observe(state, hypers, shared):
        return {"sum": state.params, "shared": shared}

    experiment = Experiment(
        stepwise(init, step), observe, (5, 12), jnp.float32(2), stream, stream_steps, log_every=log_every
    )
    return experiment, stack([Part(seed=seed, steps=12) for seed in range(3)]), ("a", "b", "c")


@pytest.mark.parametrize("stream_steps", [1, 4, 50])
def test_steps_read_what_was_made_for_them_at_once(tmp_path, stream_steps):
    seen = run_alone(*streamed(stream_steps, log_every=7), tmp_path).observations()
    for step in (5, 12):
        assert seen[step]["sum"].tolist() == [2.0 * sum(t * t for t in range(step))] * 3
        assert seen[step]["shared"].tolist() == [2.0] * 3, "observations read what is shared"


def test_no_span_is_longer_than_what_is_made_at_once():
    """And what is made is kept while spans lie in it."""
    with reader(streamed(4)[0], jax.devices()[:1]) as read:
        assert read(5)[1] is read(7)[1] and read(5)[0] == 4 and read(8)[1] is not read(7)[1]
    found = list(spans(streamed(4, log_every=7)[0], 0))
    assert found == [(0, 4), (4, 5), (5, 7), (7, 8), (8, 12)]
    assert list(spans(streamed(50, log_every=7)[0], 5)) == [(5, 7), (7, 12)]
