"""Bootstrap intervals against SciPy's, by hand, and against what they promise over 2,000 seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.patching.effects import intervals
from interp_jax.patching.effects.intervals import METHODS, bootstrap_interval
from tests.patching.effects.binomial import N_SEEDS, check_rate

SKEWED = np.random.default_rng(0).exponential(size=(3, 25))


@pytest.mark.parametrize(("method", "scipys"), [("percentile", "percentile"), ("bca", "BCa")])
def test_ends_are_scipys_but_for_the_draws(method, scipys):
    with jax.enable_x64(True):
        seen = bootstrap_interval(jnp.asarray(SKEWED), 0, 0.9, 20_000, method)
        theirs = scipy.stats.bootstrap(
            (SKEWED,), np.mean, axis=-1, n_resamples=20_000, confidence_level=0.9, method=scipys, rng=1
        )
        spread = SKEWED.std(1) / 5
        np.testing.assert_allclose(seen.mean, SKEWED.mean(1), rtol=1e-12)
        for end, their_end in (
            (seen.low, theirs.confidence_interval.low),
            (seen.high, theirs.confidence_interval.high),
        ):
            assert (np.abs(end - their_end) < 0.06 * spread).all()  # an end's standard error is 0.012 spreads


def test_studentised_ends_are_those_of_the_same_resamples_by_hand():
    with jax.enable_x64(True):
        n = 199
        seen = bootstrap_interval(jnp.asarray(SKEWED), 7, 0.9, n, "studentised")
        draw = jax.vmap(lambda i: intervals._resample(jnp.uint32(7), i, 25, np.dtype("float64")))
        counts = np.asarray(draw(jnp.arange(n, dtype=jnp.uint32))).astype(int)
        np.testing.assert_array_equal(counts.sum(1), 25)
        for cell, x in enumerate(SKEWED):
            drawn = np.stack([np.repeat(x, row) for row in counts])
            t = (drawn.mean(1) - x.mean()) / drawn.std(1)
            t = np.sort(t)  # 199 cut [0, 1] into 200: the quantiles 0.05 and 0.95 are the 10th and the 190th
            np.testing.assert_allclose(seen.low[cell], x.mean() - x.std() * t[189], rtol=1e-9)
            np.testing.assert_allclose(seen.high[cell], x.mean() - x.std() * t[9], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_an_interval_moves_with_its_effects_and_does_not_know_its_neighbours(method, monkeypatch):
    with jax.enable_x64(True):
        grid = jnp.asarray(SKEWED)
        whole = bootstrap_interval(grid.reshape(3, 1, 25), 5, method=method, n_resamples=101)
        assert whole.low.shape == (3, 1)
        alone = bootstrap_interval(grid[1], 5, method=method, n_resamples=101)
        moved = bootstrap_interval(10 + 3 * grid[1], 5, method=method, n_resamples=101)
        for part, one, other in zip(whole, alone, moved, strict=True):
            np.testing.assert_allclose(one, part[1, 0], rtol=1e-12)
            np.testing.assert_allclose(other, 10 + 3 * one, rtol=1e-9)
        intervals._intervals.clear_cache()
        monkeypatch.setattr(intervals, "AT_ONCE", 60)  # two resamples and one cell at once
        for part, other in zip(whole, bootstrap_interval(grid, 5, method=method, n_resamples=101), strict=True):
            np.testing.assert_allclose(other, part[:, 0], rtol=1e-12)
        intervals._intervals.clear_cache()


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_effect_is_known_and_a_single_one_is_not_bounded(method):
    seen = bootstrap_interval(jnp.full((2, 9), 0.3), 0, method=method)
    np.testing.assert_allclose(np.array(seen), 0.3, rtol=1e-6)
    high = bootstrap_interval(jnp.zeros(9).at[4].set(1.0), 0, method=method).high
    assert bool(jnp.isinf(high)) == (method == "studentised")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "draw", "mean", "n_examples"),
    [
        ("percentile", jax.random.normal, 0.0, 100),
        ("bca", jax.random.normal, 0.0, 100),
        ("bca", jax.random.exponential, 1.0, 200),
        ("studentised", jax.random.normal, 0.0, 12),
        ("studentised", jax.random.exponential, 1.0, 30),
    ],
)
def test_intervals_cover_what_they_promise(method, draw, mean, n_examples):
    def covers(seed):
        values = draw(randomness.key(seed, "calibration"), (n_examples,))
        seen = bootstrap_interval(values, seed, n_resamples=399, method=method)
        return (seen.low <= mean) & (mean <= seen.high)

    hits = jax.jit(lambda seeds: jax.lax.map(covers, seeds, batch_size=100))(jnp.arange(N_SEEDS))
    check_rate(np.asarray(hits), 0.95)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effects": jnp.ones((3, 1))}, "an interval over 1 example(s): give at least 2"),
        ({"method": "bcaa"}, "unknown method 'bcaa': did you mean 'bca'?"),
        ({"level": 95.0}, "level = 95.0: must lie between 0 and 1"),
        ({"n_resamples": 0}, "n_resamples = 0: must be at least 1"),
        ({"effects": jnp.array([1.0, jnp.inf])}, "the metric 'effect' is inf on example 1"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(InputError) as error:
        bootstrap_interval(**({"effects": jnp.ones((3, 4)), "seed": 0} | arguments))
    assert str(error.value) == message
