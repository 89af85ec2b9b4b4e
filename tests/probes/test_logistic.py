"""Logistic regression against SciPy's minimum in float64; separable classes; a population stops as each member alone would."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from scipy.special import expit

from interp_jax.probes.logistic import logistic

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)) * [1, 1, 5, 0.2, 1, 0] + [0, 2, 0, 0, 0, 0]  # the last column is of zeros
LABELS = np.stack([X[:, 0] + RNG.normal(size=80) > 0, X[:, 2] > 3, RNG.random(80) < 0.1])  # noisy, separable, rare


def minimum(x, y, penalty, weights=1.0):
    def loss(w):
        z = x @ w[:-1] + w[-1]
        return (weights * (np.logaddexp(0, z) - y * z)).sum() + penalty / 2 * (w[:-1] ** 2).sum()

    def gradient(w):
        e = weights * (expit(x @ w[:-1] + w[-1]) - y)
        return np.r_[x.T @ e + penalty * w[:-1], e.sum()]

    return scipy.optimize.minimize(
        loss, np.zeros(x.shape[1] + 1), jac=gradient, method="BFGS", options={"gtol": 1e-10}
    ).x


def test_it_is_the_minimum_for_all_concepts_at_once():
    fits = jax.jit(jax.vmap(lambda y, penalty: logistic(jnp.float32(X), y, penalty)))
    for penalty in (1.0, 1e-2):
        got = fits(jnp.array(LABELS), jnp.full(3, penalty))
        want = np.stack([minimum(X, y, penalty) for y in LABELS])
        scale = np.abs(want).max(1, keepdims=True)
        np.testing.assert_allclose(got.probe.weights / scale, want[:, :-1] / scale, atol=2e-3)
        np.testing.assert_allclose(got.probe.bias / scale[:, 0], want[:, -1] / scale[:, 0], atol=2e-3)
        assert got.gradient.max() <= 1e-5 and got.steps.max() < 20
        np.testing.assert_array_equal(got.probe.weights[:, 5], 0)


def test_in_float64_it_is_exact_and_weights_are_repetitions():
    n = RNG.integers(0, 3, 80)
    with jax.enable_x64(True):
        got = logistic(jnp.array(X), jnp.array(LABELS[0]), 0.5, jnp.array(n, jnp.float64), 1e-12)
        np.testing.assert_allclose(np.r_[got.probe.weights, got.probe.bias], minimum(X, LABELS[0], 0.5, n), atol=1e-7)


def test_a_member_alone_has_the_steps_that_it_has_among_others():
    fit = jax.jit(jax.vmap(lambda y: logistic(jnp.float32(X), y, 1e-2)))
    together, alone = fit(jnp.array(LABELS)), fit(jnp.array(LABELS[:1]))
    assert len(set(together.steps.tolist())) > 1 and together.steps[0] == alone.steps[0]
    np.testing.assert_allclose(together.probe.weights[0], alone.probe.weights[0], rtol=1e-4, atol=1e-5)


def test_far_outliers_do_not_make_it_diverge():
    """Undamped, Newton's first steps from 0 overshoot on such data, and never return."""
    x = np.r_[np.linspace(-1, 1, 40), 500.0, -400.0][:, None]
    y = np.r_[np.linspace(-1, 1, 40) > 0.1, False, True]
    got = logistic(jnp.float32(x), jnp.array(y), 1e-3)
    want = minimum(x, y, 1e-3)
    np.testing.assert_allclose(np.r_[got.probe.weights, got.probe.bias], want, rtol=1e-2, atol=1e-3)
