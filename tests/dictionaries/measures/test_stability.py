"""Dictionaries that share a known part of their features, and chance against drawn directions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries.measures.stability import matched_by_chance, matching, nearest_by_chance, stability
from interp_jax.errors import InputError

RNG = np.random.default_rng(0)


def population(n_shared, members=3, n=16, d=40):
    """Each has the first rows in an order and of lengths of its own, and others at random."""
    common, made, orders = RNG.normal(size=(n, d)), [], []
    for _ in range(members):
        rows = np.concatenate([common[:n_shared], RNG.normal(size=(n - n_shared, d))])
        orders.append(RNG.permutation(n))
        made.append((rows * RNG.uniform(0.5, 2, (n, 1)))[orders[-1]])
    return np.float32(made), np.array(orders)


def test_features_in_common_are_found_again():
    W, orders = population(12)
    got = stability(W)
    np.testing.assert_array_equal(got.pairs, [[0, 1], [0, 2], [1, 2]])
    np.testing.assert_allclose(got.found_again, 12 / 16)
    for (i, j), partner, matched in zip(got.pairs, got.partner, got.matched, strict=True):
        common = orders[i] < 12
        np.testing.assert_array_equal(orders[j][partner][common], orders[i][common])
        np.testing.assert_allclose(matched[common], 1, atol=1e-6)
    assert (got.nearest.max((1, 2)) <= 1 + 1e-6).all() and (got.nearest[:, 0] >= got.matched - 1e-6).all()
    assert got.mean == pytest.approx(got.matched.mean())


def test_encoders_must_agree_too():
    """Of sixteen features found again by decoders, four have their encoders exchanged, and one an encoder of its own."""
    W, orders = population(16, members=2)
    E, at = W.copy(), np.argsort(orders[1])
    E[1, at[:4]] = W[1, at[[1, 2, 3, 0]]]
    E[1, at[4]] = RNG.normal(size=40)
    assert stability(W).found_again == 1
    assert stability(W, E).found_again == 11 / 16
    with pytest.raises(InputError, match="at least two"):
        stability(W[:1])


def test_matching_is_the_best_of_all_and_keeps_signs():
    A, B = np.float32(RNG.normal(size=(2, 4, 3)))
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    C = unit(A) @ unit(B).T
    best = max(itertools.permutations(range(4)), key=lambda order: sum(C[i, j] for i, j in enumerate(order)))
    partner, cosine = matching(A, B)
    np.testing.assert_array_equal(partner, best)
    np.testing.assert_allclose(cosine, C[np.arange(4), list(best)], atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(1, 5), (64, 8), (256, 32)])
def test_chance_is_that_of_drawn_directions(n, d):
    """Of 4,000 draws of n cosines with a fixed direction: the first entry of a normal vector over its length."""
    z = RNG.normal(size=(4_000, n))
    cosine = z / np.sqrt(z**2 + RNG.chisquare(d - 1, size=z.shape))
    largest = cosine.max(1)
    got = nearest_by_chance(n, d)
    assert abs(got.mean - largest.mean()) < 4 * largest.std() / 4_000**0.5 + 1e-4
    assert abs((largest < got.quantile).mean() - 0.95) < 0.015


def test_random_dictionaries_are_matched_below_their_nearest():
    matched = matched_by_chance(jax.random.key(0), 64, 16)
    chance = nearest_by_chance(64, 16)
    assert matched.shape == (4,) and (matched < chance.mean).all() and (matched > 0.2).all()
    W = jnp.float32(RNG.normal(size=(2, 64, 16)))
    got = stability(W)
    assert abs(got.mean - matched.mean()) < 0.03 and abs(got.nearest.mean() - chance.mean) < 0.02
