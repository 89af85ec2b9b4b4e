"""Logistic regression against SciPy's minimum in float64; separable classes; a population stops as each member alone would."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from scipy.special import expit, log_softmax, logsumexp

from interp_jax.probes import logistic, multinomial
from interp_jax.probes.logistic import Hypers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)) * [1, 1, 5, 0.2, 1, 0] + [0, 2, 0, 0, 0, 0]  # the last column is of zeros
LABELS = np.stack([X[:, 0] + RNG.normal(size=80) > 0, X[:, 2] > 3, RNG.random(80) < 0.1]).astype(
    float
)  # noisy, separable, rare
ONES = jnp.ones(80)


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


def test_it_is_the_minimum_for_all_concepts_and_penalties_at_once():
    fit = lambda y, penalty: logistic.fit(None, jnp.float32(X), y, ONES, Hypers(penalty))
    got = jax.jit(jax.vmap(jax.vmap(fit, (0, None)), (None, 0)))(jnp.float32(LABELS), jnp.array([1.0, 1e-2]))
    want = np.array([[minimum(X, y, penalty) for y in LABELS] for penalty in (1.0, 1e-2)])
    scale = np.abs(want).max(-1, keepdims=True)
    np.testing.assert_allclose(got.weights / scale, want[..., :-1] / scale, atol=2e-3)
    np.testing.assert_allclose(got.bias / scale[..., 0], want[..., -1] / scale[..., 0], atol=2e-3)
    assert got.convergence.converged.all() and got.convergence.gradient.max() <= 1e-5
    assert got.convergence.steps.max() < 20
    np.testing.assert_array_equal(got.weights[..., 5], 0)


def test_in_float64_it_is_exact_and_weights_are_repetitions():
    n = RNG.integers(0, 3, 80)
    with jax.enable_x64(True):
        got = logistic.fit(
            None, jnp.array(X), jnp.array(LABELS[:2].T), jnp.array(n, jnp.float64), Hypers(0.5), tolerance=1e-12
        )
        for w, b, y in zip(got.weights, got.bias, LABELS[:2], strict=True):
            np.testing.assert_allclose(np.r_[w, b], minimum(X, y, 0.5, n), atol=1e-6)


def test_a_member_alone_has_the_steps_that_it_has_among_others():
    fit = jax.jit(jax.vmap(lambda y: logistic.fit(None, jnp.float32(X), y, ONES, Hypers(1e-2))))
    together, alone = fit(jnp.float32(LABELS)), fit(jnp.float32(LABELS[:1]))
    steps = together.convergence.steps
    assert len(set(steps.tolist())) > 1 and steps[0] == alone.convergence.steps[0]
    np.testing.assert_allclose(together.weights[0], alone.weights[0], rtol=1e-4, atol=1e-5)


def test_far_outliers_do_not_make_it_diverge():
    """Undamped, Newton's first steps from 0 overshoot on such data, and never return."""
    x = np.r_[np.linspace(-1, 1, 40), 500.0, -400.0][:, None]
    y = np.r_[np.linspace(-1, 1, 40) > 0.1, False, True]
    got = logistic.fit(None, jnp.float32(x), jnp.float32(y), jnp.ones(42), Hypers(1e-3))
    want = minimum(x, y, 1e-3)
    np.testing.assert_allclose(np.r_[got.weights, got.bias], want, rtol=1e-2, atol=1e-3)


def test_a_fit_that_is_cut_short_says_so():
    got = logistic.fit(None, jnp.float32(X), jnp.float32(LABELS[1]), ONES, Hypers(1e-4), most_steps=2)
    assert got.convergence.steps == 2 and not got.convergence.converged and got.convergence.gradient > 1e-5


def test_multinomial_is_the_minimum():
    y = np.eye(3)[(X[:, 0] > -0.3).astype(int) + (X[:, 1] + RNG.normal(size=80) > 2.5)]
    w = RNG.integers(0, 3, 80)

    def loss(flat):
        W = flat.reshape(3, 7)
        z = X @ W[:, :-1].T + W[:, -1]
        value = (w * (logsumexp(z, 1) - (y * z).sum(1))).sum() + 0.35 * np.square(W[:, :-1]).sum()
        e = w[:, None] * (np.exp(log_softmax(z, 1)) - y)
        return value, np.c_[e.T @ X + 0.7 * W[:, :-1], e.sum(0)].ravel()

    want = scipy.optimize.minimize(loss, np.zeros(21), jac=True, options={"gtol": 1e-9}).x.reshape(3, 7)
    with jax.enable_x64(True):
        fit = jax.jit(lambda *a: multinomial.fit(None, *a, multinomial.Hypers(0.7), tolerance=1e-12))
        got = fit(jnp.array(X), jnp.array(y), jnp.array(w, jnp.float64))
        assert got.convergence.converged
        np.testing.assert_allclose(np.c_[got.weights, got.bias], want, atol=1e-6)
    np.testing.assert_allclose(np.asarray(got.weights).sum(0), 0, atol=1e-10)
