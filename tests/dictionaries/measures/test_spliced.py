"""Losses recovered of dictionaries that are perfect, silent or say the mean; of transcoders that are the MLP itself."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.dictionaries.measures.spliced import recovered, splice, spliced
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

CFG = TransformerConfig(n_layers=3, d_model=16, n_heads=2, d_head=8, d_mlp=32, d_vocab=30, n_context=12)
PARAMS = jax.tree.map(lambda x: 3 * x, transformer.init(jax.random.key(0), CFG))
TOKENS = jax.random.randint(jax.random.key(1), (4, 11), 0, 30)
MODEL = lambda tokens: transformer.apply(PARAMS, tokens, CFG)
STREAM = ("blocks.resid_post", "blocks.resid_post")
MLP = ("blocks.mlp.in", "blocks.mlp.out")


def means(found):
    return {name: x.mean() for name, x in found.items()}


@pytest.mark.parametrize("sites", [STREAM, ("blocks.attn.z", "blocks.attn.z")])
def test_what_says_the_activation_itself_recovers_all(sites):
    found = spliced(MODEL, TOKENS, sites, 1, lambda x: x, jnp.ones(16))
    assert found.loss["clean"].shape == (4, 10)
    for without in ("zero", "mean"):
        for of in (found.loss, found.kl):
            np.testing.assert_allclose(recovered(means(of), without), 1, atol=1e-5)
    np.testing.assert_allclose(found.kl["clean"], 0, atol=1e-6)


def test_what_says_nothing_or_the_mean_recovers_nothing():
    mean = jax.random.normal(jax.random.key(3), (16,))
    zero = spliced(MODEL, TOKENS, STREAM, 1, lambda x: 0 * x, mean)
    np.testing.assert_allclose(recovered(means(zero.loss), "zero"), 0, atol=1e-6)
    said = spliced(MODEL, TOKENS, STREAM, 1, lambda x: jnp.broadcast_to(mean, x.shape), mean)
    np.testing.assert_allclose(recovered(means(said.kl), "mean"), 0, atol=1e-6)
    assert abs(recovered(means(said.kl), "zero")) > 1e-3, "the two ablations are not the same"


def test_losses_are_those_of_an_edited_run():
    """By an edit of one layer; and the layer may be traced."""
    W = jax.random.normal(jax.random.key(2), (16, 16)) / 4
    edit = lambda x, layer: jnp.where(layer == 2, x @ W, x)
    logits = taps.edit_with(MODEL, {STREAM[0]: edit})(TOKENS[:, :-1])
    want = -jnp.take_along_axis(jax.nn.log_softmax(logits), TOKENS[:, 1:, None], -1)[..., 0]
    run = jax.jit(partial(spliced, MODEL, TOKENS, STREAM, reconstruct=lambda x: x @ W, mean=jnp.zeros(16)))
    np.testing.assert_allclose(run(layer=2).loss["spliced"], want, rtol=1e-5)
    assert np.abs(run(layer=1).loss["spliced"] - want).max() > 1e-3


def test_positions_that_do_not_count_keep_their_activation():
    W, counts = jax.random.normal(jax.random.key(2), (16, 16)) / 4, np.random.default_rng(0).random((4, 10)) < 0.6
    edit = lambda x, layer: jnp.where((layer == 2) & counts[..., None], x @ W, x)
    logits = taps.edit_with(MODEL, {STREAM[0]: edit})(TOKENS[:, :-1])
    want = -jnp.take_along_axis(jax.nn.log_softmax(logits), TOKENS[:, 1:, None], -1)[..., 0]
    found = spliced(MODEL, TOKENS, STREAM, 2, lambda x: x @ W, jnp.zeros(16), jnp.asarray(counts))
    np.testing.assert_allclose(found.loss["spliced"], want, rtol=1e-5)
    heads = spliced(MODEL, TOKENS, ("blocks.attn.z",) * 2, 2, lambda x: x, jnp.zeros(16), jnp.zeros((4, 10), bool))
    np.testing.assert_allclose(heads.loss["zero"], heads.loss["clean"], rtol=1e-5)


def test_a_transcoder_that_is_the_mlp_changes_nothing():
    weights = jax.tree.map(lambda x: x[1], PARAMS["blocks"]["mlp"])
    own = lambda x: jax.nn.gelu(x @ weights["W_in"] + weights["b_in"]) @ weights["W_out"] + weights["b_out"]
    acts = taps.record(MODEL, MLP)(TOKENS[:, :-1])[1]
    np.testing.assert_allclose(own(acts[MLP[0]][1]), acts[MLP[1]][1], atol=1e-5)
    found = spliced(MODEL, TOKENS, MLP, 1, own, jnp.zeros(16))
    np.testing.assert_allclose(found.loss["spliced"], found.loss["clean"], atol=1e-4)
    wrong = splice(MODEL, *MLP, 2, own)(TOKENS[:, :-1])
    assert np.abs(wrong - MODEL(TOKENS[:, :-1])).max() > 1e-2
