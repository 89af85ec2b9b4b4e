"""L1 probes against coordinate descent in NumPy float64, against the conditions of a minimum; penalties that leave nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax

from interp_jax.errors import InputError
from interp_jax.probes import l1

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 12)) @ (np.eye(12) + 0.4 * RNG.normal(size=(12, 12))) * np.r_[np.ones(11), 30] + 3
X[:, 5] = 2.5  # never changes
W = RNG.integers(0, 3, 120).astype(float)
SIGNAL = X[:, 0] - X[:, 1] + 0.05 * X[:, 11]
VALUES = SIGNAL + RNG.normal(size=120)
LABELS = (VALUES > SIGNAL.mean()).astype(float)
CLASSES = np.eye(3)[np.digitize(VALUES, np.quantile(VALUES, [0.3, 0.6]))]


def lasso(x, y, w, penalty, sweeps=3_000):
    """min Σ w/2 (y - x v - b)² + penalty |v|, coordinate by coordinate."""
    x, y = x - w @ x / w.sum(), y - w @ y / w.sum()
    v, r, square = np.zeros(x.shape[1]), y.copy(), w @ x**2
    for _ in range(sweeps):
        for j in np.flatnonzero(square > 1e-9):
            rho = (w * x[:, j]) @ r + square[j] * v[j]
            new = np.sign(rho) * max(abs(rho) - penalty, 0) / square[j]
            r -= x[:, j] * (new - v[j])
            v[j] = new
    return v


def missed(g, v, penalty):
    """By how much a gradient of the smooth part misses the subgradient of the penalty."""
    return np.where(v != 0, np.abs(g + penalty * np.sign(v)), np.maximum(np.abs(g) - penalty, 0)).max()


def test_lasso_is_that_of_coordinate_descent_along_the_path():
    penalties = np.array([200.0, 40.0, 5.0])
    with jax.enable_x64(True):
        run = jax.jit(lambda x, y, w, p: l1.path(x, y, w, p, "real", tolerance=1e-10, most_steps=20_000))
        got = run(*map(jnp.asarray, (X, VALUES, W, penalties)))
        want = np.stack([lasso(X, VALUES, W, p) for p in penalties])
        np.testing.assert_allclose(got.weights, want, atol=1e-6)
        assert got.convergence.converged.all() and len(set((want != 0).sum(1))) == 3
        np.testing.assert_array_equal(got.weights == 0, np.abs(want) < 1e-9)
        residual = VALUES[:, None] - X @ want.T - np.asarray(got.bias)
        np.testing.assert_allclose(W @ residual, 0, atol=1e-4)
        top = float(l1.largest_penalty(*map(jnp.asarray, (X, VALUES, W))))
    assert (lasso(X, VALUES, W, 1.001 * top, 2) == 0).all() and (lasso(X, VALUES, W, 0.99 * top, 2) != 0).any()


@pytest.mark.parametrize("loss", ["binary", "classes"])
def test_in_float32_it_satisfies_the_conditions_of_a_minimum(loss):
    y = {"binary": LABELS, "classes": CLASSES}[loss]
    given = [jnp.float32(a) for a in (X, y, W)]
    penalty = 0.05 * float(l1.largest_penalty(*given))
    got = jax.jit(lambda *a: l1.fit(jax.random.key(0), *a, l1.Hypers(penalty), loss))(*given)
    weights, bias = (np.asarray(a, float) for a in (got.weights, got.bias))
    z = X @ weights + bias
    p = expit(z) if loss == "binary" else softmax(z, axis=1)
    g = np.tensordot(
        (X - W @ X / W.sum()) / np.maximum(X.std(0), 1e-9), W.reshape(-1, *[1] * (p.ndim - 1)) * (p - y), (0, 0)
    )
    bound = penalty / np.maximum(X.std(0), 1e-9).reshape(-1, *[1] * (p.ndim - 1))
    kept = [j for j in range(12) if j != 5]
    assert missed(g[kept], weights[kept], bound[kept]) < 5e-4 * W.sum() / 10
    assert (weights[5] == 0).all() and 0 < (weights == 0).mean() < 1 and bool(got.convergence.converged)
    np.testing.assert_allclose((W @ (p - y)) / W.sum(), 0, atol=1e-4)
    said = l1.predict(got, given[0])
    np.testing.assert_allclose(said, z, atol=1e-3 * np.abs(z).max())


def test_all_weights_are_zero_from_the_largest_penalty_on_and_the_bias_is_that_of_the_classes():
    given = [jnp.float32(a) for a in (X, LABELS, W)]
    top = l1.largest_penalty(*given)
    got = jax.jit(l1.path)(*given, top * jnp.array([1.001, 0.9]))
    assert (got.weights[0] == 0).all() and (got.weights[1] != 0).sum() >= 1
    np.testing.assert_allclose(expit(float(got.bias[0])), W @ LABELS / W.sum(), atol=1e-4)


def test_an_unknown_loss_and_classes_without_an_axis_are_refused():
    given = [jnp.float32(a) for a in (X, LABELS, W)]
    for loss, message in (("binry", "did you mean 'binary'"), ("classes", "one-hot targets")):
        with pytest.raises(InputError, match=message):
            l1.fit(jax.random.key(0), *given, l1.Hypers(), loss)
