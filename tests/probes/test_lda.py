"""Discriminants of classes, with equal priors and counted ones, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.probes import lda
from interp_jax.probes.lda import Hypers, predict

EQUAL = lda.EQUAL_PRIORS.fit
RNG = np.random.default_rng(0)
KIND = RNG.choice(4, 600, p=[0.6, 0.25, 0.05, 0.1])  # the last is no class
X = RNG.normal(size=(600, 6)) @ RNG.normal(size=(6, 6)) + RNG.normal(size=(4, 6))[KIND] + 3
Y = (KIND[:, None] == np.arange(3)).astype(float)


def by_hand(x, y, w, shrinkage):
    kind = np.where(y.any(1), y.argmax(1), y.shape[1])
    mean, within = np.average(x, axis=0, weights=w), 0.0
    means = [np.average(x[kind == c], axis=0, weights=w[kind == c]) for c in range(y.shape[1] + 1)]
    for c, m in enumerate(means):
        within = within + (x[kind == c] - m).T * w[kind == c] @ (x[kind == c] - m)
    S = within / w.sum()
    S = (1 - shrinkage) * S + shrinkage * np.trace(S) / x.shape[1] * np.eye(x.shape[1])
    delta = np.array(means[:-1]) - mean
    W = np.linalg.solve(S, delta.T).T
    return (x - mean) @ W.T - 0.5 * (W * delta).sum(1)


@pytest.mark.parametrize("shrinkage", [1e-6, 0.1, 1.0])
def test_scores_are_those_of_numpy(shrinkage):
    w = RNG.integers(0, 3, 600).astype(float)
    with jax.enable_x64(True):
        z = predict(EQUAL(None, *map(jnp.asarray, (X, Y, w)), Hypers(shrinkage)), jnp.asarray(X))
    np.testing.assert_allclose(z, by_hand(X, Y, w, shrinkage), rtol=1e-9, atol=1e-9)


def test_float32_says_nearly_the_same():
    z = predict(
        EQUAL(None, jnp.asarray(X, "f"), jnp.asarray(Y, "f"), jnp.ones(600, "f"), Hypers(1e-3)),
        jnp.asarray(X, "f"),
    )
    np.testing.assert_allclose(z, by_hand(X, Y, np.ones(600), 1e-3), atol=2e-3)


def test_other_priors_are_refused():
    with pytest.raises(InputError, match="priors = 'equals'; did you mean 'equal'"):
        lda.fit(None, jnp.asarray(X, "f"), jnp.asarray(Y, "f"), jnp.ones(600, "f"), Hypers(), "equals")


def test_a_class_without_examples_is_never_said():
    y = np.concatenate([Y, np.zeros((600, 2))], axis=1)
    z = np.asarray(
        predict(
            EQUAL(None, jnp.asarray(X, "f"), jnp.asarray(y, "f"), jnp.ones(600, "f"), Hypers()),
            jnp.asarray(X, "f"),
        )
    )
    assert set(z.argmax(1)) <= {0, 1, 2} and np.isfinite(z).all()


def test_balanced_accuracy_leaves_out_rows_of_no_class():
    z = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [1, 0]])
    y = np.array([[1.0, 0], [0, 1], [0, 1], [0, 0], [0, 1]])
    assert float(lda.balanced(*map(jnp.asarray, (z, y, np.ones(5)))).balanced) == pytest.approx((1 + 1 / 3) / 2)
