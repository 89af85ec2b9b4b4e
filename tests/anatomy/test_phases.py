"""Exact losses against Monte Carlo and quadrature; minima against scipy; phases against closed forms on paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from interp_jax.anatomy.phases import PHASES, best_solutions, exact_losses, expected_loss, phase_of_last

IGNORED, DEDICATED, SUPERPOSED = range(3)


compiled_loss = jax.jit(expected_loss)


def exact(W, b, importance, p):
    with jax.enable_x64(True):
        return float(compiled_loss(*(jnp.asarray(x, jnp.float64) for x in (W, b, importance, p))))


def random_model(seed, n, m):
    rng = np.random.default_rng(seed)
    return 0.8 * rng.normal(size=(n, m)), 0.2 * rng.normal(size=n), rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 1), (3, 2), (4, 2)])
def test_expected_loss_against_monte_carlo(shape):
    W, b, importance = random_model(1, *shape)
    rng = np.random.default_rng(2)
    x = np.where(rng.random((shape[0], 400_000)) < 0.4, rng.random((shape[0], 400_000)), 0)
    errors = (importance[:, None] * (x - np.maximum(W @ (W.T @ x) + b[:, None], 0)) ** 2).mean(0)
    standard_error = errors.std() / np.sqrt(len(errors))
    assert abs(errors.mean() - exact(W, b, importance, 0.4)) < 5 * standard_error


@pytest.mark.parametrize("scale", [1.0, 0.04, 0.02, 0.0])
def test_expected_loss_against_quadrature_down_to_small_slopes(scale):
    """Slopes of the second feature go from 1 to 0, across the threshold of the Taylor series."""
    W, b, importance, p = np.array([[0.9], [-0.8 * scale]]), np.array([-0.05, 0.1]), np.array([1.0, 2.0]), 0.7

    def error(*x):
        return np.mean(importance * (x - np.maximum(W @ (W.T @ np.array(x)) + b, 0)) ** 2)

    one = [
        scipy.integrate.quad(f, 0, 1, points=[0.05 / 0.81], limit=200)[0]
        for f in (lambda x: error(x, 0), lambda y: error(0, y))
    ]
    two = scipy.integrate.dblquad(lambda y, x: error(x, y), 0, 1, 0, 1, epsabs=1e-9)[0]
    expected = (1 - p) ** 2 * error(0, 0) + p * (1 - p) * sum(one) + p**2 * two
    np.testing.assert_allclose(exact(W, b, importance, p), expected, rtol=1e-7)


def test_a_feature_left_out_costs_its_variance():
    p = 0.3
    value = exact(np.array([[1.0], [0.0]]), np.array([0.0, p / 2]), np.array([1.0, 5.0]), p)
    np.testing.assert_allclose(value, 5 * (p / 3 - p**2 / 4) / 2, rtol=1e-12)


def test_gradient_is_finite_where_slopes_vanish():
    with jax.enable_x64(True):
        grads = jax.grad(expected_loss, argnums=(0, 1))(jnp.zeros((3, 2)), jnp.zeros(3), jnp.ones(3), jnp.float64(0.5))
    assert all(np.isfinite(g).all() for g in grads)


def test_best_solutions_are_minima_that_scipy_does_not_beat():
    density, last = np.array([0.03, 0.3, 0.5, 0.9]), np.array([0.5, 1.5, 0.3, 3.0])
    best = best_solutions(2, 1, density, last)
    for i, (p, r) in enumerate(zip(density, last, strict=True)):
        rng = np.random.default_rng(i)
        loss = lambda v, p=p, r=r: exact(v[:2, None], v[2:], np.array([1.0, r]), p)
        starts = [np.r_[best.W[i, :, 0], best.b[i]], *rng.normal(0, 0.7, (1, 4))]
        found = min(
            scipy.optimize.minimize(loss, s, method="Nelder-Mead", options={"maxfev": 400}).fun for s in starts
        )
        assert best.loss[i] <= found * (1 + 1e-6)
    assert [PHASES[i] for i in best.phase] == ["superposed", "superposed", "ignored", "dedicated"]


def test_swapping_the_features_mirrors_the_diagram():
    """n=2, m=1: importance r of the second is importance 1/r of the first, so "ignored" and "dedicated" change places."""
    density, last = (g.ravel() for g in np.meshgrid([0.05, 0.3, 0.6, 0.95], [0.2, 0.4, 0.8], indexing="ij"))
    below, above = best_solutions(2, 1, density, last), best_solutions(2, 1, density, 1 / last)
    np.testing.assert_allclose(below.loss, last * above.loss, rtol=1e-6)
    mirrored = np.array([DEDICATED, IGNORED, SUPERPOSED])[above.phase]
    np.testing.assert_array_equal(below.phase, mirrored)


@pytest.mark.slow
def test_three_features_in_two_dimensions_are_made_of_pairs():
    """Dedicated dimensions cost nothing, so the best of three in two is one pair in one and one feature alone."""
    density, last = np.array([0.05, 0.05, 0.9, 0.9]), np.array([0.5, 2.0, 0.3, 3.0])
    three = best_solutions(3, 2, density, last)
    two = best_solutions(2, 1, density, np.minimum(last, 1.0))  # the pair is of the two that matter least
    np.testing.assert_allclose(3 * three.loss, 2 * two.loss, rtol=1e-5)
    np.testing.assert_array_equal(three.phase, [SUPERPOSED, DEDICATED, IGNORED, DEDICATED])


def test_exact_losses_of_measured_weights():
    W, b, _ = random_model(3, 2, 1)
    value = exact_losses(np.stack([W, W]), np.stack([b, b]), np.array([0.2, 0.5]), np.array([3.0, 0.1]))
    np.testing.assert_allclose(value, [exact(W, b, [1, 3.0], 0.2), exact(W, b, [1, 0.1], 0.5)], rtol=1e-12)


def test_phase_of_last():
    W = np.array([[[1.0], [0.1]], [[0.0], [1.0]], [[1.0], [-0.9]], [[0.1], [-1.0]]], np.float32)
    np.testing.assert_array_equal(phase_of_last(W), [IGNORED, DEDICATED, SUPERPOSED, DEDICATED])
