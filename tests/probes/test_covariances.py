"""Distances and principal components of moments against those of rows."""

import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.probes.covariances import mahalanobis, principal
from tests.probes.planted_moments import moments_of, stacked_moments

RNG = np.random.default_rng(3)
N, D, C = 300, 6, 3
Y = RNG.integers(0, C, N)
X = RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + 1.5 * RNG.normal(size=(C, D))[Y] + 3
Z = np.eye(C)[Y]
BOTH = stacked_moments([moments_of(X, Z), moments_of(X**2, Z)])


def test_distances_from_classes():
    two = Y < 2
    means = [X[Y == c].mean(0) for c in (0, 1)]
    pooled = sum(np.cov(X[Y == c].T, bias=True) * (Y == c).sum() for c in (0, 1)) / two.sum()
    got = mahalanobis(moments_of(X[two], Z[two][:, :2]), X[:5])
    for c in (0, 1):
        a = X[:5] - means[c]
        np.testing.assert_allclose(got[c], np.sqrt(np.einsum("nd,de,ne->n", a, np.linalg.inv(pooled), a)), rtol=1e-8)
    one = mahalanobis(moments_of(X, np.ones((N, 1))), X)
    np.testing.assert_allclose(np.square(one).mean(), D, rtol=1e-9)


def test_principal_components_are_those_of_the_rows():
    got = principal(BOTH, 3)
    _, sizes, directions = np.linalg.svd(X - X.mean(0), full_matrices=False)
    np.testing.assert_allclose(got.variances[0], sizes[:3] ** 2 / N)
    np.testing.assert_allclose(np.abs((got.directions[0] * directions[:3]).sum(1)), 1)
    np.testing.assert_allclose(got.shares[0], sizes[:3] ** 2 / (sizes**2).sum())


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="Mahalanobis: no class has examples"):
        mahalanobis(moments_of(X, np.zeros((N, 2))), X)
    with pytest.raises(InputError, match="7 components of 6"):
        principal(BOTH, 7)
