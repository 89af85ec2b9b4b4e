"""The formula for the circuit's scores agrees with the model, and the judges fail where they should."""

import functools

import jax
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.experiments import heads
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.heads import calibration, runs
from interp_jax.train.population import population
from interp_jax.train.run import Span


@functools.cache
def run_group(n_seeds, **static):
    members = [heads.Config(seed=i, **static) for i in range(n_seeds)]
    made = heads.experiment(members[0])

    def whole(hypers, shared):
        state = made.run.init(hypers.seed, hypers)
        state, _ = made.run.advance(state, hypers, Span(0, 1), shared)
        return made.observe(state, hypers, shared)

    config = parts.stack(members)
    seen = jax.device_get(population(whole, n_seeds, jax.devices()[:1])(config, ()))
    hashes = tuple(map(str, range(n_seeds)))
    return GroupResult(config, hashes, np.full(n_seeds, -1), {1: seen}, {}, np.zeros(0), (), np.zeros(n_seeds))


@pytest.mark.parametrize("sharpness", [2.0, 16.0])
def test_the_formula_is_the_model(sharpness):
    group = run_group(3, sharpness=sharpness)
    verdict = calibration.judge_circuit([group])
    assert verdict.passed and verdict.seeds == 3 and verdict.value < 2e-6


def test_a_sharp_circuit_has_the_three_kinds_and_a_blunt_one_is_uniform():
    tokens = np.asarray(runs.distinct_repeated(0, 4, 16, 32))
    sharp, blunt = (runs.expected_scores(tokens, s) for s in (60.0, 0.0))
    assert sharp.previous[0, 0] == pytest.approx(1) and sharp.duplicate[0, 1] == pytest.approx(0.5)
    assert sharp.induction[1, 0] == pytest.approx(1 - 0.5 / 16)
    assert np.ptp(blunt.induction) < 1e-12


def test_random_weights_pass_and_the_circuit_itself_would_not():
    assert calibration.judge_random([run_group(4, weights="random")]).passed
    assert not calibration.judge_random([run_group(3, sharpness=16.0)]).passed


def test_a_wrong_score_is_caught():
    group = run_group(3, sharpness=2.0)
    seen = group.observations[1]
    swapped = group._replace(observations={1: {**seen, "induction": seen["duplicate"]}})
    assert not calibration.judge_circuit([swapped]).passed


def test_what_the_weights_say_is_exact_on_the_circuit_and_not_on_random_weights():
    circuit, random = run_group(3, sharpness=2.0), run_group(4, weights="random")
    for judge in (calibration.judge_circuits, calibration.judge_attribution):
        assert judge([circuit]).passed and not judge([random]).passed
    assert calibration.judge_random_composition([random]).passed
    assert not calibration.judge_random_composition([circuit]).passed


def test_what_heads_and_all_else_say_is_the_difference_on_any_weights():
    seen = run_group(4, weights="random").observations[1]
    np.testing.assert_allclose(seen["said"].sum((2, 3)) + seen["rest"], seen["difference"], atol=1e-5)
    assert np.abs(seen["rest"]).min() > 1e-3
