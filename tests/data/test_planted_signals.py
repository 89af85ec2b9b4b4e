"""Planted signals: rates in closed form are those of many draws, and what is said to be there is there, and nothing else."""

import jax
import numpy as np
import pytest

from interp_jax.data import planted_signals as planted

KEYS = jax.random.split(jax.random.key(0), 2)
N = 40_000


def share(said, y):
    return float(((said > 0) == (y > 0)).mean())


def test_rates_of_lines_are_those_of_draws_and_none_is_better_than_the_best():
    drawn = planted.line(KEYS, N, 5, separation=1.5, stretch=2.0)
    x, m = np.asarray(drawn.x, float), np.asarray(drawn.mean, float)
    np.testing.assert_allclose(np.cov(x.T) - np.outer(m, m), drawn.covariance, atol=0.1)
    rng, best = np.random.default_rng(0), np.asarray(planted.best_reading(drawn))
    np.testing.assert_allclose(np.asarray(drawn.covariance) @ best, m, atol=1e-4)
    lines, biases = np.r_[best[None], m[None], rng.normal(size=(3, 5))], np.array([0, 0.1, 0.5, -1, 0])
    rates = planted.rate_of(drawn, jax.numpy.float32(lines), jax.numpy.float32(biases))
    for rate, w, b in zip(rates, lines, biases, strict=True):
        assert share(x @ w + b, drawn.y) == pytest.approx(float(rate), abs=0.01)
    assert float(planted.best_rate(drawn)) == pytest.approx(float(rates[0]), abs=1e-5)
    assert (rates[1:] < rates[0]).all()


def test_exclusive_or():
    drawn = planted.exclusive_or(KEYS, N, 6, strength=1.2)
    along = np.asarray(drawn.x @ drawn.directions.T)
    assert share(-along[:, 0] * along[:, 1], drawn.y) == pytest.approx(float(planted.exclusive_or_rate(1.2)), abs=0.01)
    for w in np.random.default_rng(0).normal(size=(3, 2)):
        ranks = np.argsort(np.argsort(along @ w)) + 1
        yes = np.asarray(drawn.y) > 0
        auroc = (ranks[yes].mean() - (yes.sum() + 1) / 2) / (~yes).sum()
        assert auroc == pytest.approx(0.5, abs=0.02)


def test_marked_positions_say_the_label_and_their_mean_less():
    drawn = planted.marked(KEYS, N, 5, 6, strength=1.2)
    of_mark, of_sign = np.moveaxis(np.asarray(drawn.x @ drawn.directions.T), 2, 0)
    found = of_sign[np.arange(N), of_mark.argmax(1)]
    rates = planted.marked_rates(5, 1.2)
    assert share(found, drawn.y) == pytest.approx(float(rates[0]), abs=0.01)
    assert share(of_sign.sum(1), drawn.y) == pytest.approx(float(rates[1]), abs=0.01) and rates[1] < rates[0] - 0.1


def test_ranked_targets_have_that_rank_and_those_directions():
    drawn = planted.ranked(KEYS, N, 8, k=3, targets=7)
    T = np.linalg.lstsq(np.asarray(drawn.x), np.asarray(drawn.y))[0].T
    values, rows = np.linalg.svd(T)[1:]
    assert values[2] > 20 * values[3]
    np.testing.assert_allclose(np.linalg.norm(rows[:3] @ np.asarray(drawn.directions).T), np.sqrt(3), atol=1e-2)


def test_labels_of_types_are_one_each_and_of_a_plane_absent_ones_are_of_nothing():
    drawn = planted.typed(KEYS, 5_000, 8, 50)
    y, types = np.asarray(drawn.y), np.asarray(drawn.types)
    assert all(len(set(y[types == t])) == 1 for t in range(50)) and 0.2 < y.mean() < 0.8
    w = np.linalg.lstsq(np.c_[drawn.x, np.ones(5_000)], 2 * y - 1)[0]
    assert share(np.c_[drawn.x, np.ones(5_000)] @ w, y) > 0.95
    nothing = planted.absent(KEYS, N, 4)
    assert np.abs(np.corrcoef(np.c_[nothing.x, nothing.y].T)[-1, :-1]).max() < 0.02


def test_statements_differ_from_their_negations_in_truth_and_more_in_the_negation():
    drawn = planted.statements(KEYS, 4_000, 10)
    apart = np.asarray((drawn.x[:, 0] - drawn.x[:, 1]) @ drawn.directions.T) / 2
    np.testing.assert_allclose(apart[:, 0] * (2 * np.asarray(drawn.y) - 1), 1, atol=1)
    assert share(apart[:, 0], drawn.y) == 1 and apart[:, 1].mean() == pytest.approx(5, abs=0.1)


def test_trees_are_laid_out_as_they_are():
    data = planted.trees(KEYS, 40, 6, 9)
    x, directions = np.asarray(data.x, float), np.asarray(data.directions, float)
    np.testing.assert_allclose(directions @ directions.T, np.eye(5), atol=1e-5)
    h = x @ directions.T
    np.testing.assert_allclose(np.square(h[:, :, None] - h[:, None]).sum(-1), data.distances, atol=1e-4)
    np.testing.assert_allclose(np.square(h).sum(-1), data.depths, atol=1e-4)
    for distance, depth in zip(np.asarray(data.distances), np.asarray(data.depths), strict=True):
        edges = np.argwhere(np.triu(distance == 1))
        parent = {j: i for i, j in edges}
        assert len(edges) == len(parent) == 5 and depth[0] == 0  # each word but the root hangs on one before it
        shortest = np.where(distance == 1, 1.0, np.where(np.eye(6), 0.0, np.inf))
        for k in range(6):  # Floyd and Warshall
            shortest = np.minimum(shortest, shortest[:, k : k + 1] + shortest[k])
        np.testing.assert_array_equal(distance, shortest)
        np.testing.assert_array_equal(depth, distance[0])
