"""Discriminants from moments, against their formulas on the examples themselves; the Bayes rate where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from interp_jax.probes import lda, mass_mean, ridge
from interp_jax.probes.targets import binary

RNG = np.random.default_rng(1)
A = RNG.normal(size=(4, 4))
Y = (RNG.random(200) < 0.3).astype(float)
X = RNG.normal(size=(200, 4)) @ A + Y[:, None] * [1.0, 0.5, 0, -1] + 5
W = RNG.integers(0, 3, 200).astype(float)


def classes(y, x=X):
    """π, means, the covariance within, of repeated examples."""
    x, y = np.repeat(x, W.astype(int), 0), np.repeat(y, W.astype(int), 0)
    means = np.stack([x[y == c].mean(0) for c in np.unique(y)])
    shares = np.array([(y == c).mean() for c in np.unique(y)])
    within = sum(s * np.cov(x[y == c].T, bias=True) for s, c in zip(shares, np.unique(y), strict=True))
    return shares, means, within


def fitted(module, y, hypers):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, module.fit(None, jnp.array(X), jnp.array(y), jnp.array(W), hypers))


@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_lda_of_two_classes(shrinkage):
    (_, yes), (mu0, mu1), within = classes(Y)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / 4 * np.eye(4)
    theta = np.linalg.solve(within, mu1 - mu0)
    got = fitted(lda, Y, lda.Hypers(shrinkage))
    np.testing.assert_allclose(got.weights, theta, rtol=1e-9)
    np.testing.assert_allclose(got.bias, np.log(yes / (1 - yes)) - theta @ (mu0 + mu1) / 2, rtol=1e-9)


def test_lda_of_classes():
    y = np.digitize(X[:, 0], np.quantile(X[:, 0], [0.2, 0.5, 0.8]))
    shares, means, within = classes(y)
    within = 0.9 * within + 0.1 * np.trace(within) / 4 * np.eye(4)
    weights = np.linalg.solve(within, means.T).T
    got = fitted(lda, np.eye(4)[y], lda.Hypers(0.1))
    bias = np.log(shares) - (weights * means).sum(1) / 2
    apart = lambda of: of[1:] - of[0]  # what all classes have in common says nothing
    np.testing.assert_allclose(apart(got.weights), apart(weights), rtol=1e-8)
    np.testing.assert_allclose(apart(got.bias), apart(bias), rtol=1e-8)


def test_mass_mean_is_along_the_difference_and_says_log_odds_along_it():
    (_, yes), (mu0, mu1), within = classes(Y)
    delta = mu1 - mu0
    got = fitted(mass_mean, Y, mass_mean.Hypers())
    a = delta @ delta / (delta @ within @ delta)
    np.testing.assert_allclose(got.difference, delta, rtol=1e-9)
    np.testing.assert_allclose(
        [got.norm, got.separation], np.linalg.norm(delta) * np.array([1, 2 / np.sqrt(np.trace(within))])
    )
    np.testing.assert_allclose(got.weights, a * delta, rtol=1e-9)
    np.testing.assert_allclose(got.bias, np.log(yes / (1 - yes)) - a * delta @ (mu0 + mu1) / 2, rtol=1e-9)


def test_a_classifier_by_ridge_is_along_ridge_and_without_penalty_lda():
    with jax.enable_x64(True):
        data = jnp.array(X), jnp.array(Y), jnp.array(W)
        got = ridge.fit_classifier(None, *data, ridge.Hypers(7.0))
        line = ridge.fit(None, *data, ridge.Hypers(7.0))
        np.testing.assert_allclose(np.asarray(got.weights / got.weights[0]), line.weights / line.weights[0], rtol=1e-9)
        free = ridge.fit_classifier(None, *data, ridge.Hypers(0.0))
        want = lda.fit(None, *data, lda.Hypers(0.0))
        np.testing.assert_allclose([*free.weights, free.bias], [*want.weights, want.bias], rtol=1e-8)


def test_lda_reaches_the_bayes_rate_and_mass_mean_does_not():
    """Two Gaussians of one covariance, which is far from round: Φ(√(δΣ⁻¹δ)/2), and Φ(δ·δ/(2 √(δΣδ))) along δ."""
    rng, delta = np.random.default_rng(2), np.array([1.0, 1.0, 0.0])
    scale = np.array([2.0, 0.4, 1.0])
    y = (np.arange(60_000) % 2).astype(np.float32)
    x = (rng.normal(size=(60_000, 3)) * scale + y[:, None] * delta).astype(np.float32)
    train, test = slice(30_000), slice(30_000, None)
    found = []
    for module in (lda, mass_mean):
        fit = module.fit(None, jnp.array(x[train]), jnp.array(y[train]), jnp.ones(30_000), module.Hypers())
        found.append(binary(module.predict(fit, jnp.array(x[test])), jnp.array(y[test]), jnp.ones(30_000)))
    best = norm.cdf(np.sqrt((delta**2 / scale**2).sum()) / 2)
    along = norm.cdf(delta @ delta / (2 * np.sqrt((delta**2 * scale**2).sum())))
    assert best - along > 0.1
    np.testing.assert_allclose([one.accuracy for one in found], [best, along], atol=4 * 0.5 / np.sqrt(30_000))
    z = norm.ppf(best) * np.sqrt(2)  # AUROC of two Gaussians: Φ(d'/√2) with d' = 2 Φ⁻¹(accuracy)
    np.testing.assert_allclose(found[0].auroc, norm.cdf(z), atol=0.01)
