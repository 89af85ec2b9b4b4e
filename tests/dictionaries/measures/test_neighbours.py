"""Firing together, against NumPy."""

import jax
import numpy as np

from interp_jax.dictionaries.measures.neighbours import fired_together, overlap


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
