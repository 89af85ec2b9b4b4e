"""Bootstraps: draws are weights, each with the fit that those weights have; they vary as estimates do."""

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.probes import ridge
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.resampling import bootstrap
from interp_jax.probes.splits import cross_validation

RNG = np.random.default_rng(0)
B, D, N = 200, 3, 150
X = RNG.normal(size=(B, D)).astype(np.float32)
Y = np.stack([X @ [1, 0, -1] + RNG.normal(size=B), X[:, 1]]).astype(np.float32)
GROUP = np.arange(B) // 4


def test_each_draw_has_the_fit_of_its_weights_and_they_vary_as_estimates_do():
    drawn = bootstrap(Examples(X, Y), N)
    assert drawn.y.shape == drawn.w.shape == (2 * N, B) and (drawn.w.sum(1) == B).all()
    splits, hypers = cross_validation(B, 2), ridge.Hypers(1e-3)
    weights = everywhere(ridge.PROBE, drawn, splits, hypers, without=("types", "untrained")).params.weights[0, :, 0]
    for label in (0, 3):
        want = ridge.fit(None, *map(jnp.asarray, (X, Y[label % 2], drawn.w[label])), hypers).weights
        np.testing.assert_allclose(weights[label], want, atol=1e-4)
    residual = Y[0] - X @ np.linalg.lstsq(X, Y[0])[0]
    inverse = np.linalg.inv(X.T @ X)
    robust = np.sqrt(np.diag(inverse @ (X.T * residual**2) @ X @ inverse))  # White 1980
    np.testing.assert_allclose(weights[::2].std(0), robust, rtol=0.2)
    assert np.abs(weights[1::2] - [0, 1, 0]).max() < 1e-3


def test_groups_are_drawn_together_and_weights_stay():
    w = RNG.integers(0, 2, B).astype(float)
    drawn = bootstrap(Examples(X, Y[0], w, groups=GROUP), 5)
    assert drawn.y.shape == (5, B) and (drawn.w[:, w == 0] == 0).all()
    for group in range(B // 4):
        own = drawn.w[:, (group == GROUP) & (w > 0)]
        assert (own == own[:, :1]).all()
    assert not np.array_equal(drawn.w, bootstrap(Examples(X, Y[0], w, groups=GROUP), 5, seed=1).w)


def test_no_draws_and_targets_of_sites_are_refused():
    with pytest.raises(InputError, match="0 draws of targets"):
        bootstrap(Examples(X, Y), 0)
    with pytest.raises(InputError, match=r"targets \(2, 5, 200\); give 1 or more, of targets \[labels, examples"):
        bootstrap(Examples(X, np.zeros((2, 5, B))), 3)
