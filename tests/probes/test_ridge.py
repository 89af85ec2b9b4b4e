"""Ridge regression against least squares with the penalty as further rows, in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.probes.ridge import ridge


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_least_squares_solution(weighted):
    rng = np.random.default_rng(0)
    x, y, penalty = rng.normal(size=(60, 5)) + 3, rng.normal(size=(4, 60)), 2.5
    s = rng.integers(0, 3, 60).astype(float) if weighted else np.ones(60)
    rows = np.sqrt(s)[:, None] * np.c_[x, np.ones(60)]
    rows = np.r_[rows, np.sqrt(penalty) * np.eye(5, 6)]
    want = np.linalg.lstsq(rows, np.r_[np.sqrt(s)[:, None] * y.T, np.zeros((5, 4))], rcond=None)[0]
    got = ridge(jnp.float32(x), jnp.float32(y), penalty, jnp.float32(s) if weighted else 1.0)
    np.testing.assert_allclose(got.weights, want[:5].T, atol=2e-5)
    np.testing.assert_allclose(got.bias, want[5], atol=1e-4)
