"""Probes of one feature: scores are those of ranks, block by block; chance is a half; bins lose little."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from interp_jax.dictionaries.measures.single_probes import above, auroc

RIVALS = jnp.asarray([[False, True, False], [True, False, False], [False, False, False]])
LEVELS = (0.0, 0.5, 1.0, 2.0, 4.0)


def labels(n, seed=0):
    """Two values of one variable, which not every example has, and a concept without an opposite."""
    label = np.random.default_rng(seed).choice([0, 1, -1], n, p=[0.3, 0.5, 0.2])
    return np.stack([label == 0, label == 1, label >= 0])


def ranked(f, there, without):
    """The statistic of Mann and Whitney, over the number of pairs."""
    return scipy.stats.mannwhitneyu(np.abs(f[there]), np.abs(f[without])).statistic / (there.sum() * without.sum())


def score(f, there, thresholds=LEVELS):
    counts = above(jnp.asarray(f), jnp.asarray(there), thresholds)
    return auroc(counts, jnp.asarray(there.sum(1)), RIVALS)


def test_scores_are_those_of_ranks_and_sum_over_blocks():
    rng, there = np.random.default_rng(1), labels(600)
    f = rng.choice([0, -0.5, 1, 2, 4], (600, 5)).astype(np.float32)
    f[:, 0] = np.where(there[0], 4, 0)
    found, without = score(f, there)
    for i in range(5):
        assert found[0, i] == pytest.approx(ranked(f[:, i], there[0], there[1]), abs=1e-6)
        assert found[1, i] == pytest.approx(float(1 - found[0, i]), abs=1e-6)
    assert found[0, 0] == 1 and np.isnan(found[2]).all()
    assert without.tolist() == [there[1].sum(), there[0].sum(), 0]
    halves = sum(above(jnp.asarray(f[s]), jnp.asarray(there[:, s]), LEVELS) for s in (slice(250), slice(250, None)))
    np.testing.assert_array_equal(halves, above(jnp.asarray(f), jnp.asarray(there), LEVELS))


def test_bins_lose_little_and_a_feature_that_knows_nothing_has_a_half():
    rng, there = np.random.default_rng(2), labels(20_000)
    size = np.exp(rng.normal(size=(20_000, 2)))
    size[:, 0] *= np.where(there[0], 2, 1)
    f = np.where(rng.random(size.shape) < 0.5, size, 0).astype(np.float32)
    found, _ = score(f, there, (0.0, *np.geomspace(0.01, 100, 17)))
    assert found[0, 0] == pytest.approx(ranked(f[:, 0], there[0], there[1]), abs=0.005)
    assert found[0, 0] > 0.55 and found[0, 1] == pytest.approx(0.5, abs=0.015)
