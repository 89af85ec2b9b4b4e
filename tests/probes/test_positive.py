"""Solutions of positive equations against NumPy in float64, and in a program for several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.probes import logistic, ridge
from interp_jax.probes.positive import solve
from interp_jax.train.population import population

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 7, 32, 75, 200])
def test_it_is_the_solution(n):
    X, g = RNG.normal(size=(2 * n, n)), RNG.normal(size=(n, 3))
    H = X.T @ X + 0.1 * np.eye(n)
    want = np.linalg.solve(H, g)
    got = jax.jit(solve)(jnp.float32(H), jnp.float32(g))
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_ill_conditioned_equations_leave_a_residual_of_rounding():
    """Condition 1e6, in float64: the residual is that of a stable method, some roundings times ‖H‖ ‖x‖."""
    Q = np.linalg.qr(RNG.normal(size=(150, 150)))[0]
    H, g = Q * np.geomspace(1e-3, 1e3, 150) @ Q.T, RNG.normal(size=(150, 1))
    with jax.enable_x64(True):
        x = np.asarray(jax.jit(solve)(jnp.array(H), jnp.array(g)))
    assert np.abs(H @ x - g).max() < 1e-13 * np.linalg.norm(H, 2) * np.linalg.norm(x)


def test_a_population_on_several_devices_comes_to_its_end():
    """What LAPACK's calls keep it from: 130 columns, on two devices."""
    x, labels = jnp.float32(RNG.normal(size=(300, 130))), jnp.float32(RNG.random((2, 300)) < 0.5)

    def fit(y, x):
        of = lambda probe: probe.fit(None, x, y, jnp.ones(300), probe.Hypers())
        return of(logistic).convergence.gradient, of(ridge).weights

    gradient, weights = population(fit, devices=jax.devices()[:2])(labels, x)
    assert (gradient <= 1e-5).all() and np.isfinite(weights).all()
