"""Weight edits in float64: exact where they say so, the least change, least squares, and what the model then says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.activations.moments import streamed
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.steering.weight_edits import (
    VALUES,
    associations,
    batch,
    exact,
    optimised_values,
    rank_one,
    second_moment,
    with_weights,
)
from interp_jax.taps import Edit
from tests.models.transformer_oracle import BASE, FAMILY, random_model

RNG = np.random.default_rng(0)
M, D, N = 9, 4, 3
W, B = RNG.normal(size=(M, D)), RNG.normal(size=D)
TEXT = RNG.normal(size=(500, M)) @ RNG.normal(size=(M, M)) + 1
C = TEXT.T @ TEXT / len(TEXT)
KEYS, WANTED = RNG.normal(size=(N, M)), RNG.normal(size=(N, D))
MISSING = WANTED - KEYS @ W - B


def test_the_second_moment_is_that_of_the_text_not_about_its_mean():
    moments = streamed([(part, None, None) for part in np.array_split(np.float32(TEXT), 3)])
    np.testing.assert_allclose(second_moment(moments), C, rtol=1e-4, atol=1e-4)
    damped = second_moment(moments, 0.5)
    np.testing.assert_allclose(
        damped - second_moment(moments), 0.5 * np.trace(C) / M * np.eye(M), rtol=1e-4, atol=1e-4
    )


def test_a_key_means_its_value_and_what_is_orthogonal_in_the_metric_keeps_its_own():
    changed = W + rank_one(C, KEYS[0], MISSING[0])
    np.testing.assert_allclose(KEYS[0] @ changed + B, WANTED[0], atol=1e-12)
    toward = np.linalg.solve(C, KEYS[0])
    other = KEYS[1] - (KEYS[1] @ toward) / (toward @ toward) * toward
    np.testing.assert_allclose(other @ changed, other @ W, atol=1e-12)
    formula = np.outer(toward, MISSING[0]) / (KEYS[0] @ toward)
    np.testing.assert_allclose(changed - W, formula, atol=1e-12)


def test_all_keys_mean_their_values_by_the_least_change_that_text_sees():
    delta = exact(C, KEYS, MISSING)
    np.testing.assert_allclose(KEYS @ (W + delta) + B, WANTED, atol=1e-10)
    seen = lambda delta: np.square(TEXT @ delta).sum()
    free = np.eye(M) - np.linalg.pinv(KEYS) @ KEYS  # adding what no key reads keeps all values
    for _ in range(50):
        assert seen(delta + 0.1 * free @ RNG.normal(size=(M, D))) > seen(delta)


@pytest.mark.parametrize("weight", [0.01, 1.0, 100.0])
def test_a_batch_is_least_squares(weight):
    """Beside `lstsq` of the keys stacked on the text, of which each row counts as much as λ says."""
    delta = batch(C, KEYS, MISSING, weight)
    rows = np.concatenate([KEYS, np.sqrt(weight / len(TEXT)) * TEXT])
    wanted = np.concatenate([MISSING, np.zeros((len(TEXT), D))])
    np.testing.assert_allclose(delta, np.linalg.lstsq(rows, wanted, rcond=None)[0], atol=1e-10)
    if weight == 0.01:
        np.testing.assert_allclose(batch(C, KEYS, MISSING, 1e-9), exact(C, KEYS, MISSING), atol=1e-5)


CFG = FAMILY["mlp"]
MODEL = partial(transformer.apply, cfg=CFG)


def test_a_model_says_what_its_memory_was_told():
    """Values that are optimised, a batch of keys, and the model's own forward pass, which then has exactly these values."""
    params, tokens = random_model(CFG)
    positions, wanted, layer = np.array([6, 5, 6]), jnp.array([2, 8, 4]), 1

    def loss(logits):
        at = logits[jnp.arange(3), jnp.asarray(positions)]
        return -jax.nn.log_softmax(at)[jnp.arange(3), wanted]

    before = associations(MODEL, params, tokens, positions, layer)
    mlp = jax.tree.map(lambda x: np.asarray(x[layer], np.float64), params["blocks"]["mlp"])
    np.testing.assert_allclose(before.values, before.keys @ mlp["W_out"] + mlp["b_out"], atol=1e-5)
    values = optimised_values(MODEL, params, tokens, positions, layer, loss, steps=60, learning_rate=0.2)
    metric = np.eye(CFG.d_mlp) + before.keys.T @ before.keys / 50
    changed = with_weights(params, CFG, layer, exact(metric, before.keys, values - before.values))
    after = associations(MODEL, changed, tokens, positions, layer)
    np.testing.assert_allclose(after.values, values, rtol=1e-3, atol=1e-4)
    first, then = (np.exp(-np.asarray(loss(MODEL(p, tokens)))) for p in (params, changed))
    assert (then > 2.5 * first).all() and (then > 0.2).all(), (first, then)
    here = np.arange(tokens.shape[1])[:, None] == positions[:, None, None]
    added = Edit("add", jnp.asarray(values - before.values, jnp.float32)[:, None], here, layer)
    shown = np.exp(-np.asarray(loss(taps.edit(MODEL)({VALUES: added}, params, tokens))))
    np.testing.assert_allclose(
        then, shown, rtol=1e-3
    )  # the last layer: nothing that other positions say comes after it
    untouched = jax.tree.map(lambda a, b: bool((a == b).all()), params, changed)
    untouched["blocks"]["mlp"].pop("W_out")
    assert all(jax.tree.leaves(untouched))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: exact(np.zeros((M, M)), KEYS, MISSING), "second moment of keys is not positive"),
        (lambda: exact(C, np.stack([KEYS[0], KEYS[0]]), MISSING[:2]), "the 2 keys depend on each other"),
        (lambda: batch(C, KEYS, MISSING, 0.0), "weight = 0.0: must be above 0"),
        (lambda: with_weights({}, BASE, 0, W), "has no MLPs"),
        (lambda: with_weights(random_model(CFG)[0], CFG, 2, W), r"at layer 2; W_out is \(16, 12\) in layers 0 to 1"),
    ],
)
def test_impossible_edits_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
