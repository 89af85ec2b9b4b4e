"""The calibrations of probes hold their bars: of what is read one seed, of rates all draws."""

import jax
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.experiments.config import build_experiment
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_signals import calibration, runs

ROWS = {one.name.removeprefix("probes: "): one for one in calibration.instruments()}


def judged(signal, quick):
    members = [build_experiment(config) for config in ROWS[signal].configs(quick)]
    each = [runs.read(signal, int(member.seed)) for member in members]
    seen = {name: np.stack([one[name] for one in each]) for name in each[0]}
    n = len(members)
    hashes = tuple(map(str, range(n)))
    group = GroupResult(parts.stack(members), hashes, np.full(n, -1), {1: seen}, {}, np.zeros(0), (), np.zeros(n))
    return ROWS[signal].judge([group])


@pytest.mark.slow
@pytest.mark.parametrize("signal", calibration.READ)
def test_what_is_read_is_what_is_planted(signal):
    verdict = judged(signal, quick=True)
    assert verdict.passed, verdict


@pytest.mark.slow
@pytest.mark.parametrize("signal", calibration.RATED)
def test_rates_are_as_stated(signal):
    verdict = judged(signal, quick=False)
    assert verdict.passed and verdict.seeds == 2_000, verdict
    assert verdict.low <= verdict.value <= verdict.high


@pytest.mark.slow
def test_the_rate_that_is_known_to_be_off_is_off():
    """Intervals over folds call too often where there is no signal; if that changes, docs/probes.md is to say so."""
    keys = jax.random.split(jax.random.key(0))
    called = runs.RATES["no signal, five folds, intervals"](keys)
    assert 0.05 < called.mean() < 0.15
