"""Structural probes: planted trees are read off, and both measures of a tree against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.probes import structural

RNG = np.random.default_rng(0)
P, D = 7, 12


def tree():
    """Parents of a random tree, its path lengths and depths."""
    parents = [-1, *[RNG.integers(0, i) for i in range(1, P)]]
    distance = np.full((P, P), np.inf)
    np.fill_diagonal(distance, 0)
    for i, parent in enumerate(parents[1:], 1):
        distance[i, parent] = distance[parent, i] = 1
    for k in range(P):  # Floyd and Warshall
        distance = np.minimum(distance, distance[:, k : k + 1] + distance[k])
    return parents, distance, distance[0]


TREES = [tree() for _ in range(60)]
DISTANCES, DEPTHS = (np.stack([one[i] for one in TREES]).astype(np.float32) for i in (1, 2))


def planted():
    """Every edge is a direction of its own, so that squared lengths are numbers of edges, beside noise in the others."""
    x = np.zeros((len(TREES), P, P - 1))
    for n, (parents, _, _) in enumerate(TREES):
        for i, parent in enumerate(parents[1:], 1):
            x[n, i] = x[n, parent]
            x[n, i, i - 1] += 1
    noise = RNG.normal(size=(len(TREES), P, D - P + 1)) * 1.5
    basis = np.linalg.qr(RNG.normal(size=(D, D)))[0]
    return jnp.float32(np.concatenate([x, noise], -1) @ basis + 5), basis


X, BASIS = planted()
W = jnp.float32(np.arange(60) < 40)


def test_distances_of_planted_trees_are_read_off_held_out_ones_and_padding_does_not_count():
    y = DISTANCES.copy()
    y[::3, 5:], y[::3, :, 5:] = -1, -1
    hypers = structural.Hypers(0.0, 0.05)
    got = jax.jit(lambda x, y: structural.DISTANCES.fit(jax.random.key(0), x, y, W, hypers, rank=6, tolerance=1e-4))(
        X, jnp.asarray(y)
    )
    found = np.asarray(structural.DISTANCES.predict(got, X))
    held = slice(40, None)
    assert np.abs(found - DISTANCES)[held].mean() < 0.1
    assert structural.attachment(found, DISTANCES)[held].mean() > 0.98
    assert structural.order(found, DISTANCES)[held].mean() > 0.95  # ties of the truth are none of what is found
    h = (X - np.asarray(got.scale.mean)) / float(got.scale.size) @ np.asarray(got.B)
    want = np.square(h[:, :, None] - h[:, None]).sum(-1)
    np.testing.assert_allclose(found, want, atol=1e-3)
    read = np.asarray(got.B).T @ BASIS.T  # the planted directions come first
    assert np.square(read[:, : P - 1]).sum() > 0.97 * np.square(read).sum()
    garbage, y = jnp.where(y < 0, -7.0, y), jnp.asarray(y)
    again = structural.DISTANCES.fit(jax.random.key(0), X, garbage, W, hypers, rank=6, tolerance=1e-4, most_steps=3)
    first = structural.DISTANCES.fit(jax.random.key(0), X, y, W, hypers, rank=6, tolerance=1e-4, most_steps=3)
    np.testing.assert_array_equal(again.B, first.B)


def test_depths_of_planted_trees():
    hypers = structural.Hypers(0.0, 0.05)
    y = jnp.asarray(DEPTHS)
    got = jax.jit(lambda x: structural.DEPTHS.fit(jax.random.key(1), x, y, W, hypers, rank=7, tolerance=1e-4))(X)
    found = np.asarray(structural.DEPTHS.predict(got, X))
    assert structural.order(found, DEPTHS)[40:].mean() > 0.8


def test_measures_of_a_tree_by_hand():
    chain = np.abs(np.arange(4)[:, None] - np.arange(4)).astype(float)
    star = np.where(np.eye(4), 0, np.where((np.arange(4) == 0)[:, None] | (np.arange(4) == 0), 1.0, 2.0))
    np.testing.assert_allclose(structural.attachment(np.stack([chain, star]), np.stack([chain, chain])), [1, 1 / 3])
    assert structural.order(chain[None], chain[None])[0] == 1
    np.testing.assert_allclose(structural.order(np.array([[3.0, 2, 1]]), np.array([[0.0, 1, 2]])), -1)
    padded = np.pad(chain, (0, 2), constant_values=-1)
    assert structural.attachment(np.pad(star, (0, 2))[None], padded[None])[0] == 1 / 3
