"""Directions found without labels: contrast-consistent search on planted truth, components against NumPy's eigenvectors."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.probes import contrast_consistent, principal

RNG = np.random.default_rng(0)


def pairs(n=400, d=12):
    """Statement and negation: truth along one direction, the words of negation along another, which is stronger."""
    basis = np.linalg.qr(RNG.normal(size=(d, d)))[0]
    true = RNG.random(n) < 0.5
    sign = np.where(true, 1.0, -1.0)
    common = RNG.normal(size=(n, 1, d))
    x = 0.3 * common + 0.2 * RNG.normal(size=(n, 2, d))
    x[:, 0] += sign[:, None] * basis[0] + 5 * basis[1]
    x[:, 1] += -sign[:, None] * basis[0] - 5 * basis[1]
    return jnp.float32(x), jnp.float32(true), basis[0]


def test_truth_is_found_its_labels_give_the_sign_alone_and_the_best_restart_is_kept():
    x, y, direction = pairs()
    w = jnp.float32(np.arange(400) < 300)
    fit = jax.jit(
        lambda y: contrast_consistent.fit(jax.random.key(0), x, y, w, contrast_consistent.Hypers(), restarts=4)
    )
    got, opposite = fit(y), fit(1 - y)
    right = ((contrast_consistent.predict(got, x) > 0) == (y > 0))[300:].mean()
    cosine = abs(got.weights @ direction) / np.linalg.norm(got.weights)
    assert right > 0.98 and cosine > 0.9 and got.losses.shape == (4,)
    np.testing.assert_array_equal(got.weights, opposite.weights)
    assert got.sign == -opposite.sign

    def loss(probe):  # the paper's, in NumPy
        each = []
        for i in (0, 1):
            part, size = probe.scales[i], float(probe.scales[i].size)
            z = (x[:300, i] - np.asarray(part.mean)) / size @ np.asarray(probe.weights, float) + float(probe.bias)
            each.append(1 / (1 + np.exp(-z)))
        consistency, confidence = (each[0] - (1 - each[1])) ** 2, np.minimum(*each) ** 2
        return (consistency + confidence).mean() + 0.5e-2 * float((probe.weights**2).sum()) / 300

    np.testing.assert_allclose(loss(got), got.losses.min(), rtol=1e-4)
    assert got.losses.min() < 0.2  # that of p = 1/2 is 1/4


def test_components_are_numpys_and_the_chosen_one_reads():
    x = RNG.normal(size=(300, 9)) * np.r_[5, 3, 2, np.ones(6)] + 4
    turned = jnp.float32(x @ np.linalg.qr(RNG.normal(size=(9, 9)))[0])
    w, y = jnp.float32(RNG.integers(0, 3, 300)), jnp.float32(x[:, 1] > 4)
    fit = jax.jit(
        lambda i: principal.fit(jax.random.key(0), turned, y, w, principal.Hypers(i), most=3, tolerance=1e-5)
    )
    got = fit(1)
    values, vectors = np.linalg.eigh(np.cov(np.asarray(turned, float).T, aweights=np.asarray(w), ddof=0))
    np.testing.assert_allclose(got.variances, values[::-1][:3], rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.asarray(got.directions) @ vectors[:, ::-1][:, :3]), np.eye(3), atol=1e-3)
    assert got.convergence.converged and got.convergence.steps < 200
    assert ((principal.predict(got, turned) > 0) == y).mean() > 0.95
    assert ((principal.predict(fit(0), turned) > 0) == y).mean() < 0.7
    few = principal.fit(jax.random.key(0), turned, y, w, principal.Hypers(), most=3, tolerance=0.0, most_steps=5)
    assert not few.convergence.converged and few.convergence.steps == 5
