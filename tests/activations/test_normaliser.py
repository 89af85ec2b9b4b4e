"""Normalisation does what it is named after, and can be undone; samples that say nothing are refused."""

import numpy as np
import pytest

from interp_jax.activations.normaliser import (
    CENTRES,
    METHODS,
    Normalise,
    fit,
    median,
    normalised,
    restored,
    side_by_side,
)
from interp_jax.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4_000, 6)) @ RNG.normal(size=(6, 6)) * [1, 2, 3, 4, 5, 0.1] + [10, 0, -5, 0, 0, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("centre", CENTRES)
def test_every_map_can_be_undone(method, centre):
    by = fit(X, Normalise(method, centre))
    np.testing.assert_allclose(restored(normalised(X, by), by), X, rtol=1e-4, atol=1e-4)


def test_each_method_does_what_it_is_named_after():
    of = lambda method, centre="mean": normalised(X, fit(X, Normalise(method, centre, shrinkage=0.0)))
    np.testing.assert_allclose(np.linalg.norm(of("length", "none"), axis=1).mean(), 6**0.5, rtol=1e-5)
    np.testing.assert_allclose(of("standard").std(0), 1, rtol=1e-4)
    white = of("whiten")
    np.testing.assert_allclose(np.cov(white, rowvar=False, bias=True), np.eye(6), atol=2e-3)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-3)
    np.testing.assert_array_equal(of("none", "none"), X.astype(np.float32) if X.dtype == np.float32 else X)


def test_whitening_is_the_symmetric_root_of_the_shrunk_covariance():
    by = fit(X, Normalise("whiten", "mean", shrinkage=0.3))
    covariance = np.cov(X, rowvar=False, bias=True)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / 6 * np.eye(6)
    np.testing.assert_allclose(by.forward, by.forward.T, atol=1e-6)
    np.testing.assert_allclose(by.forward @ shrunk @ by.forward, np.eye(6), atol=1e-4)


def test_the_geometric_median_is_where_most_are():
    x = np.array([[0.0, 0], [0, 0], [0, 0], [100.0, 0], [0, 50.0]])
    np.testing.assert_allclose(median(x), [0, 0], atol=1e-2)
    y = RNG.normal(size=(50, 3))
    sum_of_distances = lambda m: np.linalg.norm(y - m, axis=1).sum()
    best = sum_of_distances(median(y))
    assert all(best <= sum_of_distances(median(y) + 0.01 * step) for step in RNG.normal(size=(20, 3)))


def test_several_side_by_side_are_each_as_alone():
    halves = [X[:, :2], X[:, 2:]]
    for methods in (("length", "standard"), ("length", "whiten")):
        maps = [fit(part, Normalise(m, "mean")) for part, m in zip(halves, methods, strict=True)]
        alone = np.concatenate([normalised(part, by) for part, by in zip(halves, maps, strict=True)], axis=1)
        together = side_by_side(maps)
        np.testing.assert_allclose(normalised(X, together), alone, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(restored(alone, together), X, rtol=1e-4, atol=1e-4)


def test_samples_that_say_nothing_are_refused():
    with pytest.raises(InputError, match="activation 3 of the sample is nan in dimension 1"):
        fit(np.where(np.arange(12).reshape(6, 2) == 7, np.nan, 1.0), Normalise())
    for method in ("length", "standard", "whiten"):
        with pytest.raises(InputError, match="do not vary"):
            fit(np.zeros((5, 3)), Normalise(method, "mean"))
    with pytest.raises(InputError, match="normalise.method: unknown 'whitened'"):
        Normalise("whitened").check()
    with pytest.raises(InputError, match="shrinkage: 2"):
        Normalise(shrinkage=2.0).check()
