"""Nearest rows of the decoder and firing together, against NumPy; ties by the first feature."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.dictionaries.measures.neighbours import fired_together, neighbours, overlap


def test_neighbours_are_those_of_the_whole_matrix():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(20, 5))
    W[7], W[11], W[19] = 3 * W[2], W[2], 0
    used = np.arange(20) != 4
    found = jax.jit(neighbours, static_argnums=1)(W.astype(np.float32), 3, used)
    unit = W / np.maximum(np.linalg.norm(W, axis=1), 1e-12)[:, None]
    C = unit @ unit.T
    C[:, 4] = -np.inf
    np.fill_diagonal(C, -np.inf)
    for i in np.flatnonzero(used):
        np.testing.assert_allclose(found.cosine[i], -np.sort(-C[i])[:3], atol=1e-6)
        np.testing.assert_allclose(C[i, np.asarray(found.feature[i])], found.cosine[i], atol=1e-6)
    assert list(found.feature[7][:2]) == [2, 11]
    assert not np.isin(4, found.feature)


def test_too_few_features_are_no_neighbours():
    found = neighbours(jnp.eye(4), 3, jnp.array([True, True, False, False]))
    assert found.feature[0].tolist() == [1, -1, -1] and found.cosine[0].tolist() == [0, 0, 0]


def test_overlap_is_the_share_of_the_rarer_feature():
    rng = np.random.default_rng(1)
    f = np.where(rng.random((200, 6)) < 0.3, 1.0, 0).astype(np.float32)
    f[:, 5] = 0
    f[:, 4] = f[:, 0] * (rng.random(200) < 0.4)
    near = np.array([[4, 1], [0, 5], [3, 1], [2, 4], [0, 1], [0, -1]], np.int32)
    together = sum(np.asarray(jax.jit(fired_together)(part, near)) for part in (f[:90], f[90:]))
    fires = f != 0
    expected = np.array([[(fires[:, i] & fires[:, j]).sum() for j in row] for i, row in enumerate(near)])
    np.testing.assert_array_equal(together, expected)
    found = overlap(together, fires.sum(0), near)
    assert found[0, 0] == found[4, 0] == 1 and found[1, 1] == found[5, 0] == found[5, 1] == 0
    assert found[2, 0] == expected[2, 0] / min(fires[:, 2].sum(), fires[:, 3].sum())
