"""The toy models' experiment: what its runs see, what its sweeps are, and what its report says of known weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.anatomy import phases
from interp_jax.data.features import Features, draw_features, importance
from interp_jax.errors import InputError
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.superposition import Config, experiment, report
from interp_jax.experiments.superposition import phases as phase_diagrams
from interp_jax.experiments.superposition.runs import observation_steps
from interp_jax.experiments.sweep import expand
from interp_jax.models import superposition
from interp_jax.models.superposition import ToyModel
from interp_jax.parts import stack
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import Span

FILE = load_file(CONFIGS / "superposition.py")


@pytest.mark.parametrize(
    ("arg", "sweep", "n"),
    [
        ("", "default", 28 + 7 + 14 + 600),
        ("tiny", "plane", 28),
        ("abs", "sparsity", 28),
        ("correlated", "sparsity", 28),
    ],
)
def test_sweeps_expand_to_valid_members(arg, sweep, n):
    members = expand(FILE.get_config(arg), FILE, [sweep])
    assert len(members) == n
    assert len({jax.tree.structure(m.part) for m in members}) == (5 if sweep == "default" else 1)


def test_a_run_trains_on_its_own_batches_and_is_observed_on_fresh_ones():
    config = Config(seed=3, steps=40, batch_size=64, optimizer=Optimizer(learning_rate=1e-2))
    parts = experiment(config)
    state, metrics = parts.run.advance(parts.run.init(3, config), config, Span(jnp.int32(0), jnp.int32(1)), ())
    first = draw_features(config.data, 5, 64, 3, "train", 0)
    start = parts.run.init(3, config).params
    expected = superposition.loss(start, first, importance(config.data, 5), config.model)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-6)
    trained, _ = parts.run.advance(state, config, Span(jnp.int32(1), jnp.int32(40)), ())
    before, after = parts.observe(state, config, ()), parts.observe(trained, config, ())
    assert after["loss"] < before["loss"]
    assert after["W"].shape == (5, 2)


def test_observation_steps():
    assert observation_steps(5_000) == (50, 500, 1_666, 5_000)
    assert observation_steps(1) == (1,)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (Config(model=ToyModel("absolute")), "use 'both'"),
        (Config(model=ToyModel(n_features=2, n_hidden=3)), "more than n_features"),
        (Config(data=Features(sparsity=1.5)), "not in"),
        (Config(batch_size=0), "at least 1"),
    ],
)
def test_impossible_configs_are_refused(config, word):
    with pytest.raises(InputError, match=word):
        config.check()


def known_group(solutions, density, last):
    """A group whose members have given weights, one per point, and worse ones beside them."""
    base = Config(model=ToyModel(n_features=2, n_hidden=1), steps=10)
    configs, W, b = [], [], []
    for i, (p, r) in enumerate(zip(density, last, strict=True)):
        law = dataclasses.replace(base.data, sparsity=1 - float(p), last_importance=float(r))
        for seed in range(2):  # the second seed represents nothing
            configs.append(dataclasses.replace(base, seed=seed, data=law))
            W.append(solutions.W[i] * (1 - seed))
            b.append(solutions.b[i] * (1 - seed))
    n = len(configs)
    seen = {10: {"W": np.float32(W), "b": np.float32(b), "loss": np.zeros(n, np.float32)}}
    names = tuple(map(str, range(n)))
    metrics = {"loss": np.ones((1, n))}
    return GroupResult(stack(configs), names, np.full(n, -1), seen, metrics, np.array([10]), names, np.zeros(n))


@pytest.mark.slow
def test_the_phase_diagram_of_exact_solutions_agrees_everywhere():
    density, last = np.geomspace(0.05, 1.0, 4), np.geomspace(0.2, 5.0, 4)
    p, r = (g.ravel() for g in np.meshgrid(density, last, indexing="ij"))
    group = known_group(phases.best_solutions(2, 1, p, r), p, r)
    assert phase_diagrams.is_phases(group)
    measured = phase_diagrams.measured_phases(
        group, np.unique(1 - group.config.data.sparsity), np.unique(group.config.data.last_importance)
    )
    np.testing.assert_array_equal(measured, phase_diagrams.predicted(2, 1, density, last))
    page = report([group])
    assert any("100.0% of the" in getattr(block, "caption", "") for block in page.blocks)


def test_cells_away_from_a_boundary():
    fine = np.zeros((5, 7), int)
    fine[:, 4:] = 1  # a boundary between columns 3 and 4: cells are columns 0, 2, 4, 6
    np.testing.assert_array_equal(phase_diagrams.uniform_around(fine), [[True, True, False, True]] * 3)
    lines = phase_diagrams.boundaries(fine, np.geomspace(1, 2, 7), np.geomspace(1, 2, 5))
    assert not lines  # a vertical boundary has no importance at which phases change
    (line,) = phase_diagrams.boundaries(fine.T, np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 2, 4, 8, 16, 32, 64]))
    np.testing.assert_allclose(line.y, np.sqrt(8 * 16))


def test_halved():
    np.testing.assert_allclose(phase_diagrams.halved(np.array([1.0, 4.0, 16.0])), [1, 2, 4, 8, 16])
