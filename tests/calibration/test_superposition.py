"""The calibrations of the toy models hold their bars with both generators, and their judges can fail."""

import jax
import numpy as np
import pytest

from interp_jax.experiments.config import build_experiment
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.superposition import calibration, experiment
from interp_jax.parts import stack
from interp_jax.train.population import pad_members, place, population
from interp_jax.train.run import Span


def grow(configs):
    """The groups of some runs, straight from `population`."""
    members = [build_experiment(config) for config in configs]
    groups = {}
    for member in members:
        groups.setdefault(jax.tree.structure(member), []).append(member)
    return [grow_group(group) for group in groups.values()]


def grow_group(members):
    devices = jax.devices()[:2]
    parts = experiment(members[0])
    hypers = place(pad_members(stack(members), len(devices)), devices)

    def whole(config, span):
        state, metrics = parts.run.advance(parts.run.init(config.seed, config), config, span, ())
        return parts.observe(state, config, ()), metrics, state.diverged_at

    steps, n = members[0].steps, len(members)
    result = population(whole, devices=devices)(hypers, Span(np.int32(0), np.int32(steps)))
    seen, metrics, diverged_at = jax.tree.map(lambda leaf: np.asarray(leaf)[:n], result)
    hashes, nowhere = tuple(map(str, range(n))), ("",) * n
    metrics = {name: value[None] for name, value in metrics.items()}
    return GroupResult(
        stack(members), hashes, diverged_at, {steps: seen}, metrics, np.array([steps]), nowhere, np.zeros(n)
    )


MISSED = "measured .20 (threefry) and .17 (counter): runs stop short of the polytopes, see docs/superposition.md"


def held(instrument):
    """The instrument as a case; the one row that misses its bar is expected to, and says so if that changes."""
    marks = pytest.mark.xfail(reason=MISSED, strict=True) if instrument.name.endswith("4.1") else ()
    return pytest.param(instrument, id=instrument.name, marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize("instrument", [held(one) for one in calibration.instruments()])
def test_holds_its_bar(instrument):
    verdict = instrument.judge(grow(instrument.configs(False)))
    assert verdict.passed, verdict
    assert verdict.low <= verdict.value <= verdict.high


@pytest.mark.slow
@pytest.mark.parametrize(
    "instrument", calibration.instruments()[: len(calibration.instruments()) // 2], ids=lambda one: one.name
)
def test_untrained_models_fail(instrument):
    """The quick version trains for twenty steps: a judge that passes it sees nothing."""
    verdict = instrument.judge(grow(instrument.configs(True)))
    assert not verdict.passed, verdict
