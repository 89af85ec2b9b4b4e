"""After LEACE nothing linear is left: its theorems, and that no other map that does so changes less."""

import numpy as np
import pytest
import scipy.optimize

from interp_jax.activations.moments import streamed
from interp_jax.errors import InputError
from interp_jax.probes.erasure.eraser import Eraser, edit_of, erased, interchanged, nothing, ranks, stacked
from interp_jax.probes.erasure.linear import (
    approximating_oracle,
    least_change,
    orthogonal,
    projection,
    random_like,
    shrunk,
)
from tests.probes.planted_moments import moments_of, stacked_moments

RNG = np.random.default_rng(0)
N, D, C = 600, 8, 3
Y = RNG.integers(0, C, N)
X = RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + 2 * RNG.normal(size=(C, D))[Y] + 5
Z = np.eye(C)[Y]
BINARY = (Y == 0).astype(float)[:, None]
FITS = {"least change": least_change, "shrunk": lambda m: least_change(m, 0.3), "oas": lambda m: least_change(m, "oas"),
        "orthogonal": orthogonal}  # fmt: skip


def cross(x, z):
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


@pytest.mark.parametrize("fit", FITS.values(), ids=list(FITS))
@pytest.mark.parametrize("z", [Z, BINARY, RNG.normal(size=(N, 2)) + X[:, :2]], ids=["classes", "binary", "numbers"])
def test_the_cross_covariance_is_zero_and_what_is_erased_is_a_projection(fit, z):
    eraser = fit(moments_of(X, z))
    assert np.abs(cross(X, z)).max() > 0.1
    assert np.abs(cross(erased(eraser, X), z)).max() < 1e-10
    np.testing.assert_allclose(erased(eraser, erased(eraser, X)), erased(eraser, X), atol=1e-9)
    np.testing.assert_allclose(erased(eraser, X).mean(0), X.mean(0), atol=1e-9)
    assert ranks(eraser) == np.linalg.matrix_rank(cross(X, z), tol=1e-8)


def test_it_holds_where_activations_lie_in_a_subspace_or_there_are_few():
    thin = np.c_[X[:, :3], X[:, :3] @ RNG.normal(size=(3, 4))]
    few, y = X[:5], Z[:5]
    for x, z in ((thin, Z), (few, y)):
        assert np.abs(cross(erased(least_change(moments_of(x, z)), x), z)).max() < 1e-10
    assert np.abs(erased(least_change(moments_of(thin, Z)), thin) - thin).max() < 100


def test_no_linear_predictor_beats_the_constant():
    """Ridge with next to no penalty, and logistic regression: weights of rounding, and the loss of the constant."""
    left, y = erased(least_change(moments_of(X, BINARY)), X), BINARY[:, 0]
    rate = y.mean()
    constant = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))

    def fitted(x):
        """Weights of least squares, and the least logistic loss."""
        rows = np.c_[x - x.mean(0), np.ones(N)]
        loss = lambda w: np.mean(np.logaddexp(0, rows @ w) - y * (rows @ w))
        slope = lambda w: rows.T @ (1 / (1 + np.exp(-rows @ w)) - y) / N
        found = scipy.optimize.minimize(loss, 0.01 * RNG.normal(size=D + 1), jac=slope, options={"gtol": 1e-9})
        squares = np.linalg.solve(rows.T @ rows + 1e-3 * np.eye(D + 1), rows.T @ y)
        return np.abs(squares[:D]).max(), found.fun

    weights, loss = fitted(left)
    assert weights < 1e-8 and constant - 1e-12 < loss < constant + 1e-9
    weights, loss = fitted(X)
    assert weights > 1e-2 and loss < constant - 0.05


def test_it_is_the_least_change():
    """Against the closed form of least squares under A Σ_xz = Σ_xz, and against a numerical optimum."""
    x = X[:, :4]
    moments = moments_of(x, BINARY)
    sigma, s = moments.covariance, moments.cross_covariance
    eraser = least_change(moments)
    A = (eraser.read @ eraser.write).T
    inverse = np.linalg.inv(sigma)
    np.testing.assert_allclose(A, s @ np.linalg.inv(s.T @ inverse @ s) @ s.T @ inverse, atol=1e-10)
    change = lambda A: np.trace(A.reshape(4, 4) @ sigma @ A.reshape(4, 4).T)
    found = scipy.optimize.minimize(
        change,
        np.eye(4).ravel(),
        jac=lambda A: (2 * A.reshape(4, 4) @ sigma).ravel(),
        constraints={"type": "eq", "fun": lambda A: (A.reshape(4, 4) @ s - s).ravel()},
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert found.success and change(A) <= found.fun * (1 + 1e-6)
    np.testing.assert_allclose(A, found.x.reshape(4, 4), atol=1e-3)
    assert np.mean((erased(orthogonal(moments), x) - x) ** 2) > np.mean((erased(eraser, x) - x) ** 2)


def test_an_uncorrelated_target_costs_nothing():
    residual = RNG.normal(size=(N, 1))
    design = np.c_[X, np.ones(N)]
    residual -= design @ np.linalg.lstsq(design, residual, rcond=None)[0]
    eraser = least_change(moments_of(X, residual))
    assert ranks(eraser) == 0
    np.testing.assert_array_equal(erased(eraser, X), X)


def test_leading_axes_are_each_by_itself():
    both = stacked_moments([moments_of(X, Z), moments_of(X[:, ::-1] ** 2, Z)])
    for fit in FITS.values():
        together = fit(both)
        for i in range(2):
            alone = fit(at(both, i))
            np.testing.assert_allclose(together.read[i] @ together.write[i], alone.read @ alone.write, atol=1e-9)


def at(moments, i):
    return type(moments)(*(leaf[i] for leaf in moments))


def test_moments_that_were_streamed_in_float32_erase_to_their_rounding():
    x, z = X.astype(np.float32), Z.astype(np.float32)
    eraser = least_change(streamed([(x[:400], z[:400], None), (x[400:], z[400:], None)]))
    assert ranks(eraser) == C - 1
    assert np.abs(cross(erased(eraser, x.astype(float)), Z)).max() < 1e-6


def test_shrinkage():
    moments = moments_of(X, Z)
    d = X.shape[1]
    np.testing.assert_allclose(shrunk(moments, 1.0), np.trace(moments.covariance) / d * np.eye(d))
    covariance = moments.covariance
    square, trace = np.trace(covariance @ covariance), np.trace(covariance)
    want = ((1 - 2 / d) * square + trace**2) / ((N + 1 - 2 / d) * (square - trace**2 / d))
    np.testing.assert_allclose(approximating_oracle(moments), want)
    assert approximating_oracle(moments_of(np.eye(4), np.eye(4))) == 1
    truth, better = np.diag(np.linspace(0.8, 1.2, d)), 0
    for _ in range(20):
        few = moments_of(RNG.normal(size=(12, d)) @ np.sqrt(truth), RNG.normal(size=(12, 1)))
        better += np.linalg.norm(shrunk(few, "oas") - truth) < 0.5 * np.linalg.norm(few.covariance - truth)
    assert better >= 18


def test_projections_and_random_ones_of_equal_rank():
    directions = RNG.normal(size=(2, D))
    eraser = projection(directions, X.mean(0))
    np.testing.assert_allclose((erased(eraser, X) - X.mean(0)) @ directions.T, 0, atol=1e-10)
    np.testing.assert_allclose(eraser.read @ eraser.write, np.linalg.pinv(directions) @ directions, atol=1e-10)
    assert ranks(projection(np.stack([directions[0], 2 * directions[0]]))) == 1
    moments = moments_of(X, Z)
    target = least_change(moments)
    for covariance in (None, moments.covariance):
        drawn = random_like(target, 0, 4, covariance)
        assert (ranks(drawn) == C - 1).all() and drawn.read.shape == (4, D, C)
        np.testing.assert_allclose(drawn.write @ drawn.read, np.diag([1.0, 1, 0])[None].repeat(4, 0), atol=1e-9)
        assert np.abs(cross(erased(Eraser(*(a[0] for a in drawn)), X), Z)).max() > 0.1
        assert np.abs(drawn.read[0] - drawn.read[1]).max() > 1e-2
    changes = [np.trace(moments.covariance @ d.read[0] @ d.write[0]) for d in (random_like(target, 1), drawn)]
    assert all(0 < c < np.trace(moments.covariance) for c in changes)


def test_interchange_takes_what_the_source_has():
    eraser = least_change(moments_of(X, Z))
    got = erased(interchanged(eraser, X[::-1]), X[:, None])[:, 0]
    np.testing.assert_allclose(got @ eraser.read, X[::-1] @ eraser.read, atol=1e-9)
    rest = np.eye(D) - eraser.read @ eraser.write
    np.testing.assert_allclose(got @ rest, X @ rest, atol=1e-9)


def test_erasers_of_several_ranks_in_one_array():
    two = [least_change(moments_of(X, Z)), projection(RNG.normal(size=(1, D)))]
    both = stacked([*two, nothing(two[0])])
    assert ranks(both).tolist() == [2, 1, 0]
    got = erased(both, np.stack([X] * 3))
    for i in range(2):
        np.testing.assert_allclose(got[i], erased(two[i], X), atol=1e-12)
    np.testing.assert_array_equal(got[2], X)
    assert edit_of(two[0], layer=1).layer == 1


def test_what_cannot_be_erased_is_refused():
    with pytest.raises(InputError, match="do not vary"):
        least_change(moments_of(np.ones((5, 2)), np.arange(5.0)[:, None]))
    with pytest.raises(InputError, match="no targets"):
        orthogonal(moments_of(X, np.zeros((N, 0))))
    with pytest.raises(InputError, match='shrinkage = 2: a number from 0 to 1, or "oas"'):
        least_change(moments_of(X, Z), 2)
    with pytest.raises(InputError, match="shrinkage = 'ledoit'"):
        least_change(moments_of(X, Z), "ledoit")
    with pytest.raises(InputError, match="not all 0"):
        projection(np.zeros((1, 3)))
    with pytest.raises(InputError, match="no eraser"):
        stacked([])
