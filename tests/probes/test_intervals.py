"""Intervals against SciPy's; groups count as what they are; the stated level is kept."""

import numpy as np
import pytest
import scipy.stats

from interp_jax.probes.intervals import of_means, of_shares

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("k", [0, 3, 50, 100])
def test_shares_are_wilsons(k):
    values = (np.arange(100) < k).astype(float)
    want = scipy.stats.binomtest(k, 100).proportion_ci(method="wilson")
    got = of_shares(values, np.ones(100))
    np.testing.assert_allclose([got.low, got.high], want, atol=3e-3)


def test_means_are_students():
    values = RNG.normal(size=(3, 12))
    got = of_means(values, np.ones(12))
    want = scipy.stats.ttest_1samp(values, 0, axis=1).confidence_interval()
    np.testing.assert_allclose([got.low, got.high], want)
    left_out = of_means(np.c_[values, np.full(3, np.nan)], np.r_[np.ones(12), 1])
    np.testing.assert_allclose(left_out, got)


def test_an_example_that_comes_ten_times_is_one_of_a_group():
    values = RNG.normal(size=30)
    one = of_means(values, np.ones(30))
    many = of_means(np.repeat(values, 10), np.ones(300), np.repeat(np.arange(30), 10))
    np.testing.assert_allclose(many, one, rtol=1e-9)
    yes = (values > 0).astype(float)
    alone, together = (
        of_shares(yes, np.ones(30)),
        of_shares(np.repeat(yes, 10), np.ones(300), np.repeat(np.arange(30), 10)),
    )
    assert np.all(together.high - together.low >= 0.95 * (alone.high - alone.low))


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_level_is_kept(share, grouped):
    """2,000 draws at once; in groups, all five of one are right or wrong together. An exact test may not reject 95%."""
    right = RNG.random((2_000, 120 if not grouped else 60)) < share
    values = np.repeat(right, 5 if grouped else 1, axis=1).astype(float)
    got = of_shares(values, np.ones(values.shape[1]), np.arange(values.shape[1]) // 5 if grouped else None)
    covered = ((got.low <= share) & (share <= got.high)).sum()
    assert scipy.stats.binomtest(int(covered), 2_000, 0.95).pvalue > 1e-3 or covered / 2_000 > 0.95
