"""Moments of unions of folds against NumPy in float64; probes from moments that came from elsewhere."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.probes import lda, ridge
from interp_jax.probes.moments import gram, moments, moments_of_folds, one_target

RNG = np.random.default_rng(0)
X, Y, W = RNG.normal(size=(90, 5)) + 100, RNG.normal(size=(90, 2)) - 7, RNG.integers(0, 3, 90).astype(float)


class Streamed(NamedTuple):
    """As they come from a pass over data: in float64, with more fields."""

    count: np.ndarray
    mean: np.ndarray
    target_mean: np.ndarray
    scatter: np.ndarray
    cross: np.ndarray
    target_scatter: np.ndarray


def by_numpy(x, y, w):
    n = w.sum()
    mean, target_mean = w @ x / n, w @ y / n
    a, b = x - mean, y - target_mean
    return Streamed(n, mean, target_mean, (w[:, None] * a).T @ a, (w[:, None] * a).T @ b, (w[:, None] * b).T @ b)


def test_unions_of_folds():
    """Means are 100 times the spread: in float32, sums that are not about a point would be wrong in the second digit."""
    fold = RNG.integers(0, 3, 90)
    most = np.bincount(fold).max()
    rows = np.stack(
        [np.pad(r, (0, most - len(r)), constant_values=-1) for r in (np.flatnonzero(fold == f) for f in range(3))]
    )
    include = np.array([[0, 1, 1], [1, 1, 1.0]])
    got = moments_of_folds(*map(jnp.float32, (X, Y, W)), jnp.array(rows), jnp.float32(include))
    for m, included in enumerate(include):
        want = by_numpy(X, Y, W * included[fold])
        for name in got._fields:
            np.testing.assert_allclose(getattr(got, name)[m], getattr(want, name), rtol=3e-5, atol=2e-3)


def test_a_gram_matrix_by_blocks():
    x, w = RNG.normal(size=(40, 600)), RNG.random(40)
    np.testing.assert_allclose(gram(jnp.float32(x), jnp.float32(w)), (x * w[:, None]).T @ x, atol=1e-4)


def test_probes_from_moments_alone_are_those_of_the_examples():
    y = (Y > -7).astype(float)
    streamed = by_numpy(X, y, W)
    with jax.enable_x64(True):
        arguments = jnp.array(X), jnp.array(y), jnp.array(W)
        for found, want in zip(moments(*arguments), streamed, strict=False):
            np.testing.assert_allclose(np.asarray(found), want, rtol=1e-9)
        got, want = ridge.from_moments(streamed, ridge.Hypers(2.0)), ridge.fit(None, *arguments, ridge.Hypers(2.0))
        np.testing.assert_allclose(np.asarray(got.weights), np.asarray(want.weights), rtol=1e-9)
        got = lda.from_moments(one_target(streamed, 1), lda.Hypers(0.1))
        want = lda.fit(None, arguments[0], arguments[1][:, 1], arguments[2], lda.Hypers(0.1))
        np.testing.assert_allclose(
            np.asarray([*got.weights, got.bias]), np.asarray([*want.weights, want.bias]), rtol=1e-7
        )
