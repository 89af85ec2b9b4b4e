"""Single fits of linear probes agree with scikit-learn's, in float64 and with weights of examples.

Ridge and discriminants to 1e-6; logistic fits to 1e-6 in the loss and 1e-3 in the coefficients.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Lasso, LogisticRegression, Ridge

from interp_jax.probes import l1, lda, logistic, multinomial, ridge

RNG = np.random.default_rng(0)
KIND = RNG.choice(3, 300, p=[0.6, 0.3, 0.1])
X = RNG.normal(size=(300, 6)) @ RNG.normal(size=(6, 6)) + RNG.normal(size=(3, 6))[KIND] + 3
CLASSES = np.eye(3)[KIND]
W = RNG.integers(1, 3, 300).astype(float)


def in_float64(fit, *given):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, fit(*map(jnp.asarray, given)))


@pytest.mark.parametrize("n", [25, 90])
def test_ridge_along_a_path_also_with_fewer_examples_than_columns(n):
    x, y, w = RNG.normal(size=(n, 40)) + 2, RNG.normal(size=(n, 3)), RNG.integers(1, 3, n).astype(float)
    penalties = np.geomspace(1e-3, 1e4, 8)
    along = jax.vmap(lambda x, y, w, penalty: ridge.fit(None, x, y, w, ridge.Hypers(penalty)), (None, None, None, 0))
    got = in_float64(along, x, y, w, penalties)
    for penalty, weights, bias in zip(penalties, got.weights, got.bias, strict=True):
        want = Ridge(alpha=penalty, solver="cholesky").fit(x, y, sample_weight=w)
        np.testing.assert_allclose(weights, want.coef_, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(bias, want.intercept_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("priors", "shrinkage"), [("equal", None), ("counted", None), ("counted", 0.05)])
def test_discriminants(priors, shrinkage):
    more = 5 * (priors == "counted")  # with priors that are given, theirs weighs covariances by these
    known = np.concatenate([np.flatnonzero(KIND == c)[: 15 + more * c] for c in range(3)])
    given = np.ones(3) / 3 if priors == "equal" else None
    model = LinearDiscriminantAnalysis(solver="lsqr", priors=given, shrinkage=shrinkage).fit(X[known], KIND[known])
    hypers = lda.Hypers(shrinkage or 1e-12)
    scores = lambda x, y, w: lda.predict(lda.fit(None, x, y, w, hypers, priors), x)
    ours, theirs = in_float64(scores, X[known], CLASSES[known], np.ones(len(known))), model.decision_function(X[known])
    np.testing.assert_allclose(ours - ours[:, :1], theirs - theirs[:, :1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("penalty", [1e-2, 1.0, 100.0])
@pytest.mark.parametrize("kind", ["logistic", "multinomial"])
def test_logistic_regression(kind, penalty):
    """Of two classes, one of which is rare, and of three."""
    probe, y = (logistic, (KIND == 2).astype(float)) if kind == "logistic" else (multinomial, CLASSES)
    fit = lambda x, y, w: probe.fit(None, x, y, w, probe.Hypers(penalty), tolerance=1e-9)
    got = in_float64(fit, X, y, W)
    model = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=100_000)
    model.fit(X, y if kind == "logistic" else KIND, sample_weight=W)

    def loss(weights, bias):
        z = (X @ weights.T + bias).reshape(len(X), -1)
        each = np.logaddexp(0, z[:, 0]) - y * z[:, 0] if kind == "logistic" else -(y * log_softmax(z, axis=1)).sum(1)
        return W @ each + penalty / 2 * np.square(weights).sum()

    best = loss(model.coef_, model.intercept_)
    assert got.convergence.converged and abs(loss(got.weights, got.bias) - best) <= 1e-6 * best
    np.testing.assert_allclose(got.weights.reshape(model.coef_.shape), model.coef_, atol=1e-3)
    bias = np.atleast_1d(got.bias)
    np.testing.assert_allclose(bias - bias.mean() * (kind != "logistic"), model.intercept_, atol=1e-3)


@pytest.mark.parametrize("loss", ["binary", "real"])
def test_an_l1_path_penalty_by_penalty(loss):
    """Theirs is logistic regression by saga, and the lasso by coordinate descent."""
    real, signal = loss == "real", X[:, 0] - X[:, 1]
    values = signal + RNG.normal(size=300)
    y = values if real else (values > signal.mean()).astype(float)
    largest = in_float64(lambda *given: l1.largest_penalty(*given, loss), X, y, W)
    penalties = float(largest) * np.array([0.7, 0.3, 0.1, 0.03])
    run = jax.jit(lambda *given: l1.path(*given, loss, tolerance=1e-9, most_steps=50_000))
    got = in_float64(run, X, y, W, penalties)

    def objective(weights, bias, penalty):
        z = X @ weights + bias
        each = 0.5 * np.square(z - y) if real else np.logaddexp(0, z) - y * z
        return W @ each + penalty * np.abs(weights).sum()

    for weights, bias, penalty in zip(got.weights, got.bias, penalties, strict=True):
        if real:
            model = Lasso(alpha=penalty / W.sum(), tol=1e-12, max_iter=100_000)
        else:
            model = LogisticRegression(l1_ratio=1, C=1 / penalty, solver="saga", tol=1e-10, max_iter=200_000)
        model.fit(X, y, sample_weight=W)
        best = objective(model.coef_.ravel(), float(np.ravel(model.intercept_)[0]), penalty)
        assert abs(objective(weights, bias, penalty) - best) <= 1e-6 * best
        np.testing.assert_allclose(weights, model.coef_.ravel(), atol=1e-3)
