"""What the loop adds to the engine: an analysis on the host, of one member after the other."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.experiments.config import Engine
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.loop import Job, analyse, run_chunk
from interp_jax.parts import hyper, part, stack
from interp_jax.results.run_directory import ChunkDirectory


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
