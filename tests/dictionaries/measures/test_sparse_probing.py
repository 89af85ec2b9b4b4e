"""k-sparse probing of planted features: whole and in halves; and the controls."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.data.planted_dictionaries import concepts
from interp_jax.dictionaries.measures.sparse_probing import (
    Labelled,
    mean_difference,
    say,
    sparse_probes,
    sparse_probing,
)

RNG = np.random.default_rng(0)


def planted(pieces):
    """Three concepts of so many features each, and five features that have nothing to do with them."""
    common, *each = jax.random.split(jax.random.key(pieces), 3)
    made = [concepts(jnp.stack([common, key]), 600, 3, pieces, others=5, noise=0.1) for key in each]
    return [Labelled(one.x, one.f, one.labels) for one in made]


def test_a_concept_in_halves_is_told_by_both_of_its_features():
    """By one of them where that one fires: about 3/4 of examples are told right, F1 is 2/3."""
    train, test = planted(2)
    got = jax.jit(sparse_probing, static_argnames="most")(jax.random.key(0), train, test, jnp.array([1, 2, 4]), most=4)
    assert [sorted(row[:2]) for row in got.features.tolist()] == [[0, 1], [2, 3], [4, 5]]
    fires, there = (test.f != 0).T[got.features[:, 0]], test.there
    np.testing.assert_allclose(got.sparse.accuracy[:, 0], (fires == there).mean(1), atol=1e-6)
    np.testing.assert_allclose(got.sparse.f1[:, 0], 2 * fires.sum(1) / (fires.sum(1) + there.sum(1)), atol=1e-6)
    np.testing.assert_allclose(got.sparse.f1[:, 0], 2 / 3, atol=0.07)
    np.testing.assert_array_equal(got.sparse.accuracy[:, 1:], 1)
    np.testing.assert_array_equal(got.dense.f1, 1)
    assert np.abs(np.asarray(got.shuffled.accuracy) - 0.5).max() < 0.1  # five standard deviations of a guess


def test_differences_of_means():
    f, there = RNG.normal(size=(30, 4)), np.stack([RNG.random(30) < 0.3, np.ones(30, bool), np.zeros(30, bool)])
    want = f[there[0]].mean(0) - f[~there[0]].mean(0)
    got = mean_difference(jnp.float32(f), jnp.array(there))
    np.testing.assert_allclose(got[0], want, atol=1e-5)
    np.testing.assert_array_equal(got[1:], 0)  # all, or none: nothing to compare


def test_a_smaller_k_is_the_probe_of_the_first_features_alone():
    """In float64: where the gradient of its loss, penalty 1, is 0; and what it says follows."""
    f, there = RNG.normal(size=(60, 5)), RNG.random((2, 60)) < 0.5
    features = np.array([[3, 1, 0], [4, 2, 1]])
    got = sparse_probes(jnp.float32(f), jnp.array(there), jnp.array(features), jnp.array([1, 3]))
    said = say(got, jnp.float32(f))
    np.testing.assert_array_equal(got.weights[:, 0, 1:], 0)
    for c in range(2):
        for i, k in enumerate((1, 3)):
            own, w = f[:, features[c, :k]], np.asarray(got.weights[c, i, :k], np.float64)
            z = own @ w + float(got.bias[c, i])
            error = 1 / (1 + np.exp(-z)) - there[c]
            np.testing.assert_allclose(np.r_[own.T @ error + w, error.sum()], 0, atol=60 * 1.1e-5)
            np.testing.assert_array_equal(said[c, i], z > 0)
