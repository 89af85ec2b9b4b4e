"""Every kind's features and loss equal the oracle's, its gradient equals differences of the oracle's loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import BY_K, Dictionary
from interp_jax.dictionaries.judged import Batch, Situation, k_now, penalty_weight
from interp_jax.dictionaries.kinds.jumprelu import jump, step
from tests.dictionaries import oracle
from tests.dictionaries.cases import CASES, PROGRESS, SHAPE, B, D, F, made, named, situation
from tests.dictionaries.gradients import check_gradients


@pytest.mark.parametrize("case", CASES, ids=named)
def test_loss_and_features_of_the_oracle(case):
    with jax.enable_x64(True):
        params, x = made(case)
        judged = dictionary.loss(params, Batch(x, x), case, situation())
        f, want = getattr(oracle, case.kind)(jax.tree.map(np.asarray, params), np.asarray(x), case, PROGRESS)
        np.testing.assert_allclose(judged.loss, want, rtol=1e-12)
        np.testing.assert_array_equal(judged.fired, (f != 0).sum(0))
        if case.kind not in ("batch_topk", "matryoshka"):  # whose examples have no batch outside of training
            np.testing.assert_allclose(dictionary.encode(params, x, case), f, atol=1e-12)
        np.testing.assert_allclose(dictionary.decode(params, jnp.asarray(f), case), oracle.say(params, f), atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_gradients_are_differences_of_the_oracles_loss(case):
    """In random directions; the parts that are frozen on purpose (gated's decoder, p_anneal's scale) are added by hand."""
    with jax.enable_x64(True):
        case = dataclasses.replace(case, bandwidth=1.5, first_threshold=0.4)
        params, x = made(case)
        check_gradients(case, params, Batch(x, x))


def test_thresholds_follow_the_kernels_closed_form():
    """A rectangle of width ε around each threshold, for every example that falls into it."""
    with jax.enable_x64(True):
        z = jnp.asarray(np.random.default_rng(0).normal(size=(50, 4)))
        threshold, bandwidth, g = jnp.array([0.1, 0.5, 1.0, 0.3]), jnp.asarray(0.4), jnp.sin(z)
        inside = np.abs(z - threshold) < 0.2
        for function, height in ((jump, threshold), (step, 1.0)):
            dz, dt = jax.grad(lambda z, t, f=function: (f(z, t, bandwidth) * g).sum(), (0, 1))(z, threshold)
            np.testing.assert_allclose(dt, -(g * height * inside / 0.4).sum(0), rtol=1e-12)
            np.testing.assert_allclose(dz, np.where(z > threshold, g, 0) if function is jump else 0 * z)


def test_penalty_and_k_are_warmed_up_step_by_step():
    """Over the first half of ten steps: the weight from 0, k from `most`; a tenth of a step before the end not yet."""
    cfg = Dictionary(n_features=F, most=12, k=3, sparsity=0.3, sparsity_warmup=0.5)
    at = lambda t, cfg=cfg: Situation(jnp.float32(t / 10), jnp.zeros(F, bool), factor=2.0)
    weights, ks = zip(*((penalty_weight(cfg, at(t)), int(k_now(cfg, at(t)))) for t in range(7)), strict=True)
    np.testing.assert_allclose(weights, 0.6 * np.array([0, 0.2, 0.4, 0.6, 0.8, 1, 1]), rtol=1e-6)
    assert ks == (12, 10, 8, 7, 5, 3, 3) and int(k_now(cfg, at(4.9))) == 3 < int(k_now(cfg, at(4.6)))
    without = dataclasses.replace(cfg, sparsity_warmup=0.0)
    assert int(k_now(without, at(0))) == 3 and penalty_weight(without, at(0)) == np.float32(0.6)


@pytest.mark.parametrize("kind", ["topk", "batch_topk", "standard", "jumprelu"])
def test_losses_are_of_the_k_and_the_weight_of_their_step(kind):
    """All features being positive, as many are active as k says; of the others the loss is the error and so much penalty."""
    case = Dictionary(kind=kind, **(SHAPE | {"most": 12}), sparsity_warmup=0.5)
    params, x = dictionary.init(jax.random.key(0), case), jax.random.normal(jax.random.key(1), (B, D))
    params |= {"b_enc": params["b_enc"] + 9}
    for t, k, weight in ((0, 12, 0.0), (2, 8, 0.12), (5, 3, 0.3), (9, 3, 0.3)):
        judged = dictionary.loss(params, Batch(x, x), case, Situation(jnp.float32(t / 10), jnp.zeros(F, bool)))
        if kind in BY_K:
            assert judged.fired.sum() == B * k
        else:
            penalty = judged.terms["penalty"]
            np.testing.assert_allclose(judged.loss, judged.terms["error"] + weight * penalty, rtol=1e-6)
            assert penalty > 1e-2 * judged.terms["error"]


@pytest.mark.parametrize("kind", BY_K)
def test_k_and_width_are_masks(kind):
    """A member with fewer features and a smaller k has the loss of a dictionary that is smaller."""
    with jax.enable_x64(True):
        large = Dictionary(kind=kind, **(SHAPE | {"prefixes": (1.0,), "auxiliary": "none"}), width=8)
        small = dataclasses.replace(large, n_features=8, width=0, most=3)
        params, x = made(large)
        fewer = {name: p[:8] if p.shape[:1] == (F,) else p for name, p in params.items()}
        here = Situation(jnp.asarray(1.0), jnp.zeros(F, bool))
        there = Situation(jnp.asarray(1.0), jnp.zeros(8, bool))
        got, want = (
            dictionary.loss(p, Batch(x, x), c, s) for p, c, s in ((params, large, here), (fewer, small, there))
        )
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-12)
        np.testing.assert_array_equal(got.fired[:8], want.fired)
        assert not got.fired[8:].any()


@pytest.mark.parametrize("n_dead", [0, 1, 4])
@pytest.mark.parametrize("auxiliary", ["openai", "saelens"])
def test_dead_features_reconstruct_what_is_left(auxiliary, n_dead):
    """With one dead feature fewer than the two that may be taken, and with more of them; none is too many nor rectified."""
    with jax.enable_x64(True):
        case = Dictionary(kind="topk", auxiliary=auxiliary, auxiliary_weight=0.5, **SHAPE)
        params, x = made(case)
        judged = dictionary.loss(params, Batch(x, x), case, situation(n_dead))
        p, x = jax.tree.map(np.asarray, params), np.asarray(x)
        f, error = oracle.topk(p, x, case, PROGRESS)
        want = 0.5 * oracle.auxiliary(p, x, x - oracle.say(p, f), np.arange(F) < n_dead, auxiliary)
        np.testing.assert_allclose(judged.terms["auxiliary"], want, rtol=1e-12)
        np.testing.assert_allclose(judged.loss, error + want, rtol=1e-12)
        assert (want > 0) == (n_dead > 0) and (n_dead == 0 or (oracle.read(p, x)[:, :n_dead] < 0).any())


def test_thresholds_that_are_learned_themselves_do_not_fall_below_0():
    case = Dictionary(kind="jumprelu", thresholds="linear", **SHAPE)
    params = dictionary.init(jax.random.key(0), case)
    assert (params["threshold"] == 0.01).all()
    moved = dictionary.constrained(params | {"threshold": params["threshold"] - jnp.arange(F) / 100}, case)
    np.testing.assert_allclose(moved["threshold"], np.maximum(0.01 - np.arange(F) / 100, 0), atol=1e-8)
