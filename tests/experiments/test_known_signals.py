"""Planted signals: what is read is the truth, judges fail where it is not, and the report has everything."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.errors import InputError
from interp_jax.experiments import known_signals
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_signals import calibration, cues, rates, runs
from interp_jax.experiments.known_signals.readings import READINGS
from interp_jax.results.blocks import TableBlock
from interp_jax.results.report import render

ROWS = {one.name.removeprefix("probes: "): one for one in calibration.instruments()}

KNOWN_TO_FAIL = {"no signal, five folds, intervals", "no signal, documents, 19 orders of tokens"}


def group_of(signal, each):
    config = parts.stack([known_signals.Config(seed=i, signal=signal) for i in range(len(each))])
    seen = {name: np.stack([one[name] for one in each]) for name in each[0]}
    n = len(each)
    return GroupResult(config, tuple(map(str, range(n))), np.full(n, -1), {1: seen}, {}, np.zeros(0), (), np.zeros(n))


@functools.cache
def ranked():
    members = [known_signals.Config(seed=i, signal="rank 3") for i in range(2)]
    made = known_signals.experiment(members[0])
    states = [made.run.init(seed, config) for seed, config in enumerate(members)]
    return group_of("rank 3", [made.analyse(*given, ()) for given in zip(states, members, strict=True)])


def test_what_is_planted_is_found_seeds_differ_and_every_wrong_figure_is_caught():
    verdict = ROWS["rank 3"].judge([ranked()])
    assert verdict.passed and verdict.seeds == 2 and verdict.value > 0
    seen = ranked().observations[1]
    assert not np.array_equal(seen["found"][0], seen["found"][1])
    for i in range(seen["found"].shape[1]):
        wrong = seen["found"].copy()
        wrong[1, i] += 0.05
        assert not ROWS["rank 3"].judge([ranked()._replace(observations={1: {**seen, "found": wrong}})]).passed


@pytest.mark.parametrize("signal,good,bad", [
    ("intervals, held out", (0.95, 0.94, 0.96), (0.92, 0.975)),
    ("no signal, held out", (0.05, 0.01, 0.06), (0.08,)),
])  # fmt: skip
def test_rates_are_judged_by_an_exact_binomial_test(signal, good, bad):
    made = lambda share: group_of(signal, [{"outcome": np.arange(250) < 250 * share}] * 8)
    for share in (*good, *bad):
        verdict = ROWS[signal].judge([made(share)])
        assert verdict.passed == (share in good) and verdict.seeds == 2_000
        assert verdict.low < verdict.value < verdict.high and "p = " in verdict.error


def test_the_truth_of_rates_is_that_of_the_fits_that_are_scored():
    """A fit from the examples that are seen, in NumPy, has the accuracy that is called true."""
    splits = rates.splits_of(5)
    seen = rates.seen(splits)
    assert seen.shape == (5, rates.EXAMPLES) and (seen.sum(0) == 4).all()
    assert np.array_equal(rates.seen(rates.splits_of(1))[0], np.arange(rates.EXAMPLES) % 2)


def test_answers_are_the_cues_or_the_bits_and_these_are_independent():
    told = cues.draw(0, 1, 4_000)
    cue, bit = np.asarray(told.cue), np.asarray(told.bit)
    np.testing.assert_array_equal(np.asarray(told.tokens)[:, [2, 4]], np.c_[cues.BIT + bit, cue])
    assert abs(np.corrcoef(cue, bit)[0, 1]) < 0.05 and (cues.answer(told, True) == cue).all()
    assert (cues.answer(told, jnp.bool_(False)) == bit).all() and told.tokens.max() < cues.CFG.d_vocab


def test_every_signal_has_a_row_of_the_certificate_and_the_report_has_both_tables():
    assert set(calibration.READ) == set(READINGS)
    assert set(calibration.RATED) == set(rates.RATES) - KNOWN_TO_FAIL
    assert all(len(one.configs(True)) == 1 for one in calibration.instruments())
    page = known_signals.report([ranked(), group_of("intervals, held out", [{"outcome": np.arange(250) < 238}])])
    figures, rated = [block.table for block in page.blocks if isinstance(block, TableBlock)]
    assert [row[1] for row in figures.rows] == ["ridge: subspace", "ridge: rank", "ridge: R²"]
    assert rated.rows == [("intervals, held out", 0.952, 250)]
    assert "NaN" not in render(page.title, page.summary, page.blocks)


def test_an_unknown_signal_is_refused():
    with pytest.raises(InputError, match="did you mean 'a line'"):
        known_signals.Config(signal="a lin").check()
    assert set(runs.SIGNALS) == set(READINGS) | set(rates.RATES) and jax.process_count() == 1
