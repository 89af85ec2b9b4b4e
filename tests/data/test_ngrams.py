"""n-gram losses against counting by hand and against a source whose entropy is known."""

from itertools import pairwise

import numpy as np
import pytest

from interp_jax.data.ngrams import PRIOR, ngram_losses


def test_equals_counting_by_hand():
    train, held_out = np.array([0, 1, 0, 1, 2, 0]), np.array([2, 0, 1, 1])
    one = lambda x: (np.sum(train == x) + PRIOR / 3) / (len(train) + PRIOR)
    pairs = list(pairwise(train))

    def two(c, x):
        return (pairs.count((c, x)) + PRIOR * one(x)) / (sum(p[0] == c for p in pairs) + PRIOR)

    expected = [np.mean([-np.log(one(x)) for x in (0, 1, 1)])]
    expected += [np.mean([-np.log(two(c, x)) for c, x in ((2, 0), (0, 1), (1, 1))])]
    got = ngram_losses(train, held_out, 3, order=2)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12)


def test_finds_the_entropy_of_a_markov_chain():
    rng = np.random.default_rng(0)
    transition = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    tokens = [0]
    for u in rng.random(60_000):
        tokens.append(int((u > transition[tokens[-1]].cumsum()).sum()))
    tokens = np.array(tokens)
    stationary = np.bincount(tokens) / len(tokens)
    rate = -(stationary[:, None] * transition * np.log(transition)).sum()
    losses = ngram_losses(tokens[:50_000], tokens[50_000:], 3)
    assert losses[1] == pytest.approx(rate, abs=0.02)
    assert losses[2] == pytest.approx(rate, abs=0.02)
    assert losses[0] == pytest.approx(-(stationary * np.log(stationary)).sum(), abs=0.03)
