"""Directions against NumPy in float64, and what recentring the differences of pairs takes away."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.probes import logistic
from interp_jax.steering.directions import (
    difference_of_means,
    principal_difference,
    probe_direction,
    random_directions,
    scale_of,
    unit,
)

D = 8


def test_difference_of_means_weighs_examples():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(50, D)), rng.integers(0, 2, 50), rng.random(50)
    w[:5] = 0
    expected = np.average(x[y == 1], 0, w[y == 1]) - np.average(x[y == 0], 0, w[y == 0])
    found = difference_of_means(*(jnp.asarray(a, jnp.float32) for a in (x, y, w)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(difference_of_means(jnp.asarray(x, jnp.float32), jnp.ones(50))).all(), (
        "of one side alone there is none"
    )


def pairs(n=400, seed=0):
    """Pairs that differ by `wanted`, of which no pair has less, and by noise that varies most along another direction."""
    rng = np.random.default_rng(seed)
    wanted, other = np.eye(D)[:2]
    common, noise = rng.normal(size=(n, D)), 0.3 * rng.normal(size=(n, D))
    noise[:, 1] += 1.5 * rng.normal(size=n)
    return wanted, other, common, common + 2 * wanted + noise


def test_the_principal_difference_is_numpys_first_eigenvector():
    _, _, negative, positive = pairs()
    w = np.random.default_rng(1).random(len(positive))
    found = principal_difference(*(jnp.asarray(a, jnp.float32) for a in (positive, negative, w)))
    delta = positive - negative
    values, vectors = np.linalg.eigh((delta * w[:, None]).T @ delta / w.sum())
    assert bool(found.convergence.converged)
    assert abs(float(found.direction @ vectors[:, -1])) > 1 - 1e-6
    assert float(found.share) == pytest.approx(values[-1] / values.sum(), rel=1e-4)
    assert float(found.direction @ (w @ delta)) > 0
    turned = principal_difference(*(jnp.asarray(a, jnp.float32) for a in (negative, positive, w)))
    np.testing.assert_allclose(turned.direction, -found.direction, atol=1e-5)


def test_recentring_the_differences_takes_out_what_is_wanted():
    wanted, other, negative, positive = pairs()
    delta = positive - negative
    cosine = lambda v, u: abs(float(np.asarray(v) @ u))
    found = principal_difference(jnp.asarray(positive, jnp.float32), jnp.asarray(negative, jnp.float32)).direction
    recentred = principal_difference(
        jnp.asarray(delta - delta.mean(0), jnp.float32), jnp.zeros((len(delta), D))
    ).direction
    assert cosine(found, wanted) > 0.97
    assert cosine(recentred, wanted) < 0.1 and cosine(recentred, other) > 0.97


def test_a_probes_direction_raises_its_score():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(200, D)), jnp.float32)
    probe = logistic.fit(None, x, (x[:, 0] > 0).astype(jnp.float32), jnp.ones(200), logistic.Hypers(1.0))
    found = probe_direction(probe)
    np.testing.assert_allclose(found, probe.weights / np.linalg.norm(probe.weights), rtol=1e-5)
    weights = rng.normal(size=(3, D))
    several = probe_direction(SimpleNamespace(weights=jnp.asarray(weights, jnp.float32)), output=1)
    expected = weights[1] - (weights[0] + weights[2]) / 2
    np.testing.assert_allclose(several, expected / np.linalg.norm(expected), rtol=1e-5)


@pytest.mark.parametrize(
    ("probe", "output", "words"),
    [
        (SimpleNamespace(weights=np.ones((3, D))), None, "output = None of a probe with 3 outputs"),
        (SimpleNamespace(weights=np.ones((3, D))), 3, "output = 3 of a probe with 3"),
        (SimpleNamespace(weights=np.ones(D)), 1, "output = 1 of a probe with one output"),
        (SimpleNamespace(layers=2), None, "SimpleNamespace has no weights"),
    ],
)
def test_what_is_no_linear_probe_is_refused(probe, output, words):
    with pytest.raises(InputError, match=words):
        probe_direction(probe, output)


def test_random_directions_have_length_one_and_no_preference():
    found = np.asarray(random_directions(jax.random.key(0), 4_000, D))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.T @ found / len(found), np.eye(D) / D, atol=0.012)
    assert np.abs(found.mean(0)).max() < 0.025


def test_scale_is_the_root_mean_square_length():
    x = np.random.default_rng(0).normal(size=(3, 5, D))
    w = np.random.default_rng(1).random((3, 5))
    assert float(scale_of(jnp.asarray(x))) == pytest.approx(np.sqrt((x**2).sum(-1).mean()), rel=1e-5)
    expected = np.sqrt((w * (x**2).sum(-1)).sum() / w.sum())
    assert float(scale_of(jnp.asarray(x), jnp.asarray(w))) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(unit(jnp.zeros(3)), 0)
