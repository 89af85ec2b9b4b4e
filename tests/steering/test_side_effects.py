"""Predictions beside finite differences in float64, Fisher's matrix beside the divergence, and the best of all vectors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.steering.response import class_log_probability
from interp_jax.steering.side_effects import (
    Site,
    fisher,
    fisher_product,
    gradients,
    predicted,
    targeted,
    with_vector,
)
from tests.models.transformer_oracle import FAMILY, random_model

CFG = FAMILY["mlp"]
PARAMS, TOKENS = random_model(CFG)
CLASSES = jnp.arange(CFG.d_vocab)[None] < jnp.array([[3], [6]])
RNG = np.random.default_rng(0)
WEIGHTS = RNG.random((2, *TOKENS.shape)).astype(np.float32)
SITE = Site("blocks.resid_post", 0, CFG.d_model)
D = CFG.d_model


def metrics(logits):
    return class_log_probability(logits, CLASSES).mean((1, 2))


@pytest.fixture(scope="module")
def exact():
    """In float64: gradients, F of both weighings, and functions of a vector for finite differences."""

    def exactly(v):
        with jax.enable_x64(True):
            return np.asarray(logits(jnp.asarray(v, jnp.float64)))

    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), PARAMS)
        model = partial(lambda params, tokens: transformer.apply(params, tokens, CFG), params)
        logits = jax.jit(lambda v: with_vector(model, TOKENS, SITE, v))
    return exactly(np.zeros(D)), exactly


@pytest.fixture(scope="module")
def found():
    model = partial(lambda params, tokens: transformer.apply(params, tokens, CFG), PARAMS)
    both = jax.jit(lambda: (gradients(model, TOKENS, SITE, metrics), fisher(model, TOKENS, WEIGHTS, SITE)))
    return both()


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def divergence(before, after, weights):
    q, said = log_softmax(before), log_softmax(after)
    return (weights * (np.exp(q) * (q - said)).sum(-1)).sum() / weights.sum()


def test_gradients_are_finite_differences(exact, found):
    _, logits = exact
    step = 1e-5
    mean = lambda said: np.array([np.log(np.exp(log_softmax(said))[..., :n].sum(-1)).mean() for n in (3, 6)])
    for v in RNG.normal(size=(3, D)):
        slope = (mean(logits(step * v)) - mean(logits(-step * v))) / (2 * step)
        np.testing.assert_allclose(np.asarray(found[0]) @ v, slope, rtol=1e-3, atol=1e-5)


def test_fisher_is_the_curvature_of_the_divergence(exact, found):
    """½ vᵀFv beside the divergence of a small step, in float64, averaged over both sides so that the third order goes."""
    before, logits = exact
    step = 1e-3
    for v in RNG.normal(size=(3, D)):
        for m in range(2):
            sides = [divergence(before, logits(sign * step * v), WEIGHTS[m]) for sign in (1, -1)]
            assert 0.5 * v @ np.asarray(found[1][m]) @ v == pytest.approx(np.mean(sides) / step**2, rel=1e-3)


def test_fisher_in_a_basis_and_its_product_are_parts_of_the_whole(found):
    model = partial(lambda params, tokens: transformer.apply(params, tokens, CFG), PARAMS)
    F, basis = np.asarray(found[1]), RNG.normal(size=(3, D)).astype(np.float32)
    some, product = jax.jit(
        lambda basis: (
            fisher(model, TOKENS, WEIGHTS, SITE, basis),
            fisher_product(model, TOKENS, WEIGHTS[1], SITE, basis[0]),
        )
    )(basis)
    np.testing.assert_allclose(some, basis @ F @ basis.T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(product, F[1] @ basis[0], rtol=1e-3, atol=1e-4)


def test_predictions_are_numpys(found):
    g, F = (np.asarray(x, np.float64) for x in found)
    v = RNG.normal(size=(4, D))
    got = predicted(*found, jnp.asarray(v, jnp.float32))
    np.testing.assert_allclose(got.effect, v @ g.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.kl, 0.5 * np.einsum("nd,mde,ne->nm", v, F, v), rtol=1e-4)


def test_no_vector_of_that_divergence_does_more(found):
    """The closed form in float64, and beside 2,000 random vectors; with another metric kept, none of those that keep it."""
    g, F = (np.asarray(x, np.float64) for x in found)
    bound, damping = 0.05, 1e-2
    damped = F[0] + damping * np.trace(F[0]) / D * np.eye(D)
    best = targeted(found[0][0], found[1][0], bound, damping=damping)
    d = np.linalg.solve(damped, g[0])
    np.testing.assert_allclose(best.vector, d * np.sqrt(2 * bound / (d @ F[0] @ d)), rtol=2e-3, atol=1e-4)
    assert float(best.kl) == pytest.approx(bound, rel=1e-3)
    kept = targeted(found[0][0], found[1][0], bound, found[0][1:], damping)
    assert abs(float(found[0][1] @ kept.vector)) < 1e-3 * float(kept.effect) and kept.effect < best.effect
    sharp = [targeted(found[0][0], found[1][0], bound, *unwanted, damping=1e-6) for unwanted in ((), (found[0][1:],))]
    others = RNG.normal(size=(2_000, D))
    across = others - np.outer(others @ g[1], g[1]) / (g[1] @ g[1])
    for top, vectors in zip(sharp, (others, across), strict=True):
        matched = vectors * np.sqrt(2 * bound / np.einsum("nd,de,ne->n", vectors, F[0], vectors))[:, None]
        assert (matched @ g[0]).max() < float(top.effect)


def test_the_effect_that_is_predicted_is_measured_where_doses_are_small(exact, found):
    before, logits = exact
    mean = lambda said: np.log(np.exp(log_softmax(said))[..., :3].sum(-1)).mean()
    for bound, tolerance in ((1e-4, 0.05), (1e-2, 0.3)):
        one = targeted(found[0][0], found[1][0], bound)
        after = logits(one.vector)
        assert mean(after) - mean(before) == pytest.approx(float(one.effect), rel=tolerance)
        assert divergence(before, after, WEIGHTS[0]) == pytest.approx(bound, rel=tolerance)


def test_a_mask_by_example_is_refused_where_windows_are_taken_one_by_one():
    model = partial(lambda params, tokens: transformer.apply(params, tokens, CFG), PARAMS)
    with pytest.raises(InputError, match="must be the same for all examples"):
        fisher(model, TOKENS, WEIGHTS, SITE._replace(where=jnp.ones((3, 7, 1), bool)))
