"""Classes that are told: after their means are taken out nothing linear is left, after the transport nothing quadratic."""

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.probes.erasure.eraser import erased
from interp_jax.probes.erasure.labelled import (
    means,
    means_edit,
    transport,
    transport_edits,
    transported,
    without_means,
)
from interp_jax.probes.erasure.linear import least_change
from tests.probes.planted_moments import moments_of, stacked_moments

RNG = np.random.default_rng(1)
N, D, C = 900, 5, 3
Y = RNG.integers(0, C, N)
X = np.einsum("bd,bde->be", RNG.normal(size=(N, D)), RNG.normal(size=(C, D, D))[Y]) + 2 * RNG.normal(size=(C, D))[Y]
Z = np.eye(C)[Y]
CLASSES = stacked_moments([moments_of(X[Y == c], np.zeros(((Y == c).sum(), 0))) for c in range(C)])


def test_means_of_classes_are_the_mean_of_all():
    got = without_means(means(moments_of(X, Z)), X, Z)
    for c in range(C):
        np.testing.assert_allclose(got[Y == c].mean(0), X.mean(0), atol=1e-10)
        np.testing.assert_allclose(np.cov(got[Y == c].T), np.cov(X[Y == c].T), atol=1e-9)
    assert np.square(got - X).sum() < np.square(erased(least_change(moments_of(X, Z)), X) - X).sum()


def test_numbers_are_regressed_out():
    z = X[:, :2] @ RNG.normal(size=(2, 2)) + RNG.normal(size=(N, 2))
    design = np.c_[z, np.ones(N)]
    want = X - design @ np.linalg.lstsq(design, X, rcond=None)[0] + X.mean(0)
    np.testing.assert_allclose(without_means(means(moments_of(X, z)), X, z), want, atol=1e-9)


def test_after_the_transport_classes_have_one_mean_and_one_covariance():
    by = transport(CLASSES)
    assert by.converged and by.left <= 1e-12 and 1 < by.steps < 500
    got = transported(by, X, Y)
    pooled = np.cov(got.T, bias=True)
    for c in range(C):
        np.testing.assert_allclose(got[Y == c].mean(0), X.mean(0), atol=1e-10)
        np.testing.assert_allclose(np.cov(got[Y == c].T, bias=True), pooled, atol=1e-9)
    linear = erased(least_change(moments_of(X, Z)), X)
    covariances = [np.cov(linear[Y == c].T) for c in range(C)]
    assert np.abs(covariances[0] - covariances[1]).max() > 0.5, "LEACE leaves what is quadratic"


def test_the_barycentre_is_the_closed_form_where_covariances_commute_and_the_least_far_elsewhere():
    diagonals = RNG.uniform(0.2, 4, (C, D))
    shares = CLASSES.count / CLASSES.count.sum()
    planted = CLASSES._replace(scatter=CLASSES.count[:, None, None] * np.stack([np.diag(d) for d in diagonals]))
    by = transport(planted)
    roots = shares @ np.sqrt(diagonals)
    np.testing.assert_allclose(by.maps, np.stack([np.diag(roots / np.sqrt(d)) for d in diagonals]), atol=1e-9)

    def moved(maps):
        """The mean squared distance but for that of the means."""
        change = np.eye(D) - maps
        return np.einsum("c,cde,cef,cdf->", shares, change, CLASSES.covariance, change)

    best = transport(CLASSES).maps
    target = best[0] @ CLASSES.covariance[0] @ best[0]
    from interp_jax.probes.erasure.labelled import root

    for _ in range(20):
        nudge = np.eye(D) + 0.1 * RNG.normal(size=(D, D))
        other = nudge @ target @ nudge.T
        own, inverse = root(CLASSES.covariance)
        assert moved(inverse @ root(own @ other @ own)[0] @ inverse) > moved(best)


def test_as_edits():
    tapped = lambda x: taps.tap(x, "a")
    x, by = jnp.float32(X), transport(CLASSES)
    y = np.where(np.arange(N) % 7 == 0, -1, Y)
    got = taps.edit(tapped)({"a": transport_edits(by, y)}, x)
    want = np.where((y >= 0)[:, None], transported(by, X, Y), X)
    np.testing.assert_allclose(got, want, atol=1e-4)
    by = means(moments_of(X, Z))
    np.testing.assert_allclose(taps.edit(tapped)({"a": means_edit(by, Z)}, x), without_means(by, X, Z), atol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="one leading axis"):
        transport(moments_of(X, Z))
    nobody = CLASSES._replace(count=CLASSES.count * [1, 0, 1])
    with pytest.raises(InputError, match="class 1 has no rows"):
        transport(nobody)
