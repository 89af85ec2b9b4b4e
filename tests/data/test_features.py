"""Sparse features: their law is the one that was asked for, and each draw is a function of (seed, stream, step)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from interp_jax.data.features import Features, draw_features, importance
from interp_jax.errors import InputError
from interp_jax.randomness import GENERATORS

N = 40_000


def drawn(n_features=6, **law):
    return np.asarray(draw_features(Features(**law), n_features, N, 3, "test", 7))


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("dependence", ["independent", "correlated", "anticorrelated"])
def test_presence_and_values_follow_the_law(generator, sparsity, dependence):
    x = drawn(sparsity=sparsity, dependence=dependence, generator=generator)
    p = (1 - sparsity) / (2 if dependence == "anticorrelated" else 1)
    for feature in x:
        assert scipy.stats.binomtest(int((feature > 0).sum()), N, p).pvalue > 1e-5
        assert scipy.stats.kstest(feature[feature > 0], "uniform").pvalue > 1e-5
    assert x.min() >= 0 and x.max() <= 1 + 1e-6


def test_signed_values_are_uniform_on_both_sides():
    x = drawn(sparsity=0.5, signs="both")
    assert scipy.stats.kstest(x[x != 0], scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-5


def test_independent_features_are_independent():
    present = drawn(sparsity=0.7) > 0
    correlation = np.corrcoef(present) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(N)


def test_correlated_features_are_present_together_with_values_of_their_own():
    x = drawn(sparsity=0.7, dependence="correlated", set_size=3)
    present = x > 0
    for start in (0, 3):
        np.testing.assert_array_equal(present[start], present[start + 1])
        np.testing.assert_array_equal(present[start], present[start + 2])
        both = x[start : start + 2, present[start]]
        assert abs(np.corrcoef(both)[0, 1]) < 5 / np.sqrt(both.shape[1])
    assert abs(np.corrcoef(present[0], present[3])[0, 1]) < 5 / np.sqrt(N)


def test_anticorrelated_features_exclude_each_other():
    present = drawn(sparsity=0.4, dependence="anticorrelated", set_size=3) > 0
    assert present[:3].sum(0).max() == 1 and present[3:].sum(0).max() == 1
    assert scipy.stats.binomtest(int(present[:3].sum()), N, 0.6).pvalue > 1e-5


def test_draws_depend_on_seed_stream_and_step_only():
    law = Features(sparsity=0.5)
    base = draw_features(law, 4, 8, 1, "a", 2)
    np.testing.assert_array_equal(base, jax.jit(lambda s, t: draw_features(law, 4, 8, s, "a", t))(1, 2))
    for other in ((2, "a", 2), (1, "b", 2), (1, "a", 3)):
        assert (draw_features(law, 4, 8, *other) != base).any()


def test_importance():
    np.testing.assert_allclose(importance(Features(importance_decay=0.5, last_importance=8.0), 3), [1, 0.5, 2])
    np.testing.assert_array_equal(importance(Features(), 4), jnp.ones(4))


@pytest.mark.parametrize(
    ("law", "word"),
    [
        ({"sparsity": -0.1}, "not in"),
        ({"sparsity": 1.0}, "not in"),
        ({"importance_decay": 0.0}, "positive"),
        ({"generator": "treefry"}, "did you mean 'threefry'"),
        ({"dependence": "corelated"}, "did you mean 'correlated'"),
        ({"dependence": "correlated", "set_size": 4}, "does not divide"),
    ],
)
def test_impossible_laws_are_refused(law, word):
    with pytest.raises(InputError, match=word):
        Features(**law).check(6)
