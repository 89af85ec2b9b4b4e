"""Ridge regression against least squares with the penalty as further rows, in float64; what is left out, by leaving it out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.probes import ridge

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 5)) + 3, RNG.normal(size=(60, 4))


def least_squares(x, y, s, penalty):
    rows = np.sqrt(s)[:, None] * np.c_[x, np.ones(len(x))]
    rows = np.r_[rows, np.sqrt(penalty) * np.eye(5, 6)]
    return np.linalg.lstsq(rows, np.r_[np.sqrt(s)[:, None] * y, np.zeros((5, y.shape[1]))], rcond=None)[0]


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_least_squares_solution(weighted):
    s = RNG.integers(0, 3, 60).astype(float) if weighted else np.ones(60)
    want = least_squares(X, Y, s, 2.5)
    got = ridge.fit(None, jnp.float32(X), jnp.float32(Y), jnp.float32(s), ridge.Hypers(2.5))
    np.testing.assert_allclose(got.weights, want[:5].T, atol=2e-5)
    np.testing.assert_allclose(got.bias, want[5], atol=1e-4)
    one = ridge.fit(None, jnp.float32(X), jnp.float32(Y[:, 0]), jnp.float32(s), ridge.Hypers(2.5))
    np.testing.assert_allclose(one.weights, want[:5, 0], atol=2e-5)
    np.testing.assert_allclose(ridge.predict(one, jnp.float32(X)), np.c_[X, np.ones(60)] @ want[:, 0], atol=1e-4)


def test_leaving_one_out_is_a_fit_without_it():
    """For all penalties and targets, with weights; an example of weight 0 is predicted as it is."""
    s = RNG.integers(0, 3, 60).astype(float)
    with jax.enable_x64(True):
        got = ridge.leave_one_out(jnp.array(X), jnp.array(Y), jnp.array(s), jnp.array([0.3, 40.0]))
    assert (s == 0).any()
    for of_penalty, penalty in zip(np.asarray(got), (0.3, 40.0), strict=True):
        for n in range(0, 60, 7):
            without = np.where(np.arange(60) == n, 0.0, s)
            want = np.r_[X[n], 1] @ least_squares(X, Y, without, penalty)
            np.testing.assert_allclose(of_penalty[n], want, atol=1e-10)
