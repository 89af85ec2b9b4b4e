"""Splitting and absorption of letters, as planted; and the count of absorbed examples against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.data.planted_dictionaries import letters
from interp_jax.dictionaries.measures.splitting import Lettered, Thresholds, absorbers, main_features, split

TOKENS = 40
SPLIT = jax.jit(split, static_argnames=("n_labels", "most"))


@pytest.mark.parametrize("absorbed", [0, 8])
def test_what_is_planted_is_found(absorbed, pieces=2):
    """Every letter has two features, each for every other of its tokens; those absorbed are silent in both."""
    common, *each = jax.random.split(jax.random.key(absorbed + pieces), 3)
    made = [letters(jnp.stack([common, key]), 1_500, 3, TOKENS, absorbed, pieces, noise=0.05) for key in each]
    train, test = (Lettered(one.x, one.f, one.labels) for one in made)
    got = SPLIT(train, test, made[0].W_dec, n_labels=3, most=4)
    np.testing.assert_array_equal(got.n_main, pieces)
    assert [sorted(row[:pieces]) for row in got.features.tolist()] == [
        [c * pieces + j for j in range(pieces)] for c in range(3)
    ]
    assert got.dense.f1.min() > 0.99
    silent = ~(made[1].f[:, : 3 * pieces] != 0).any(1)  # whose letter's own features say nothing
    truth = [silent[test.label == c].mean() for c in range(3)]
    np.testing.assert_allclose(got.rate, truth, atol=0.01)
    np.testing.assert_allclose(np.mean(truth), absorbed / TOKENS, atol=0.03)
    absorbing = np.flatnonzero(np.asarray(got.absorber).sum(0)) - 3 * pieces
    np.testing.assert_array_equal(absorbing, [c * TOKENS + t for c in range(3) for t in range(absorbed)])


def test_absorbed_examples_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(200, 4)) + 0.5, rng.normal(0.3, 1, (6, 4))
    f = np.maximum(rng.normal(size=(200, 6)), 0)
    p, main, found = np.array([0.8, 0.6, 0, 0]), np.array([1, 0, 0, 0, 0, 0], bool), rng.random(200) < 0.7
    thresholds, want = Thresholds(least_cosine=0.3, least_share=0.6), np.zeros(6, int)
    for n in range(200):
        said = [f[n, i] * (W[i] @ p) for i in range(6)]
        i = int(np.argmax(said))
        cosine = W[i] @ p / np.linalg.norm(W[i])
        if found[n] and f[n, 0] == 0 and x[n] @ p > 0 and cosine >= 0.3 and said[i] >= 0.6 * (x[n] @ p):
            want[i] += 1
    data = Lettered(jnp.float32(x), jnp.float32(f), jnp.zeros(200, jnp.int32))
    got = absorbers(data, jnp.float32(W), jnp.float32(p), jnp.array(main), jnp.array(found), thresholds)
    np.testing.assert_array_equal(got, want)
    assert want.sum() > 20 and (want > 0).sum() > 1 and want[0] == 0


def test_main_features_are_counted_until_one_more_is_of_no_use():
    f1 = jnp.array([[0.5, 0.6, 0.7, 0.71, 0.9], [0.5, 0.52, 0.9, 0.95, 0.99], [0.2, 0.4, 0.6, 0.8, 1.0]])
    np.testing.assert_array_equal(main_features(f1, 0.03), [3, 1, 5])
