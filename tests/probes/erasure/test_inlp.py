"""Directions that are taken out one after another: none is left of a planted one, and moments tell the same as rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.probes import logistic
from interp_jax.probes.erasure.eraser import erased, ranks
from interp_jax.probes.erasure.inlp import inlp, inlp_of
from interp_jax.probes.linear import Linear
from tests.probes.planted_moments import moments_of, stacked_moments

RNG = np.random.default_rng(2)
N, D = 500, 6
Y = RNG.integers(0, 2, N).astype(float)
X = RNG.normal(size=(N, D)) @ np.diag([1, 1, 1, 3, 0.5, 1]) + 1
X[:, 0] += 3 * Y
X[:, 1] -= 2 * Y
W = (np.arange(N) < 400).astype(float)


def weights(penalty, key, x, y, w):
    """Ridge regression."""
    a, b = x - w @ x / w.sum(), y - w @ y / w.sum()
    return Linear(jnp.linalg.solve((w * a.T) @ a + penalty * jnp.eye(D), a.T @ (w * b))[None], jnp.zeros(1))


def by_hand(rounds, penalty):
    basis = np.zeros((0, D))
    centre = X[:400].mean(0)
    for _ in range(rounds):
        left = X - (X - centre) @ basis.T @ basis
        a, b = left[:400] - left[:400].mean(0), Y[:400] - Y[:400].mean()
        new = np.linalg.solve(a.T @ a + penalty * np.eye(D), a.T @ b)
        new -= basis.T @ basis @ new
        basis = np.vstack([basis, new / np.linalg.norm(new)])
    return basis


def test_rounds_are_those_by_hand_and_take_the_concept_out():
    fit = jax.jit(partial(inlp, partial(weights, 0.1), rounds=3))
    got, convergence = fit(jax.random.key(0), jnp.float32(X), jnp.float32(Y), jnp.float32(W))
    assert convergence is None
    want = by_hand(3, 0.1)
    np.testing.assert_allclose(got.write.T @ got.write, want.T @ want, atol=1e-3)
    np.testing.assert_allclose(got.write @ got.read, np.eye(3), atol=1e-5)
    before, after = (np.corrcoef(x[:, :2].T, Y)[2, :2] for x in (X, np.asarray(erased(got, jnp.float32(X)))))
    assert np.abs(before).min() > 0.6 and np.abs(after).max() < 0.12


def test_moments_tell_the_same():
    moments = moments_of(X, Y[:, None], W)
    scale = np.trace(moments.covariance) / D * moments.count
    basis = by_hand(2, 1e-6 * scale)
    for made in (inlp_of(moments, 2), inlp_of(stacked_moments([moments, moments]), 2)):
        write = made.write if made.write.ndim == 2 else made.write[1]
        np.testing.assert_allclose(write.T @ write, basis.T @ basis, atol=1e-6)
    assert ranks(inlp_of(moments_of(X, np.c_[Y, 1 - Y]), 2)) == 2


def test_nothing_new_is_nothing_taken():
    """Two probes of one direction: the second adds nothing, instead of rounding that is blown up."""
    twice = lambda key, x, y, w: Linear(jnp.stack([w @ x, 2 * (w @ x)]), jnp.zeros(2))
    got = inlp(twice, jax.random.key(0), jnp.float32(X), jnp.float32(Y), jnp.float32(W), 1)
    assert ranks(got.eraser) == 1


def test_any_probe_will_do_and_each_round_says_how_its_fit_ended():
    given = jax.random.key(0), jnp.float32(X), jnp.float32(Y), jnp.float32(W), 2
    fit = lambda most: partial(logistic.fit, hypers=logistic.Hypers(1.0), most_steps=most)
    got, convergence = inlp(fit(50), *given)
    assert convergence.converged.shape == (2,) and convergence.converged.all() and ranks(got) == 2
    assert not inlp(fit(1), *given).convergence.converged.any()
