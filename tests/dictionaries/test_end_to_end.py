"""Trained through the model: the error is that of an edited run, for every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import KINDS, Dictionary
from interp_jax.dictionaries.end_to_end import error_through, rest_of
from interp_jax.dictionaries.judged import Batch, Situation
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

CFG = TransformerConfig(n_layers=3, d_model=16, n_heads=2, d_head=8, d_mlp=32, d_vocab=30, n_context=12)
PARAMS = jax.tree.map(lambda x: 3 * x, jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), CFG))
TOKENS = jax.random.randint(jax.random.key(1), (4, 11), 0, 30)
SITE, LAYER = "blocks.resid_post", 0
MODEL = lambda tokens: transformer.apply(PARAMS, tokens, CFG)
REST = rest_of(
    lambda x, layer: transformer.blocks(PARAMS, x, CFG, first_layer=layer, stop_layer=layer + 1)[0],
    lambda x: transformer.unembed(PARAMS, x, CFG),
    range(LAYER + 1, CFG.n_layers),
)


def recorded(model=MODEL):
    logits, acts = taps.record(model, [SITE])(TOKENS)
    return logits, acts[SITE]


def test_the_error_is_that_of_an_edited_run():
    logits, streams = recorded()
    counts = jnp.arange(11) >= jnp.array([[1], [0], [3], [2]])
    said = streams[LAYER] + jax.random.normal(jax.random.key(2), streams[LAYER].shape) / 2
    edit = lambda x, layer: jnp.where((layer == LAYER) & counts[..., None], said, x)
    other, changed = recorded(taps.edit_with(MODEL, {SITE: edit}))
    p, q = (np.asarray(jax.nn.log_softmax(x), np.float64) for x in (logits, other))
    kl = (np.exp(p) * (p - q)).sum(-1)[np.asarray(counts)].mean()
    apart = (
        np.square(np.asarray(streams - changed, np.float64))[LAYER + 1 :].mean(-1).sum(0)[np.asarray(counts)].mean()
    )
    rows = said.reshape(-1, 16)
    for later in (0.0, 0.7):
        error = error_through(REST, streams[LAYER], counts, later)
        np.testing.assert_allclose(error(rows), kl + later * apart, rtol=1e-4)
        assert error(streams[LAYER].reshape(-1, 16)) < 1e-6


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cross_layer"])
def test_every_kind_is_judged_by_the_model(kind):
    """The error of the kind's loss is the model's, and its gradient reaches the encoder."""
    cfg = Dictionary(
        kind=kind, d_in=16, n_features=24, most=4, k=4, prefixes=(1.0,), auxiliary="none", first_threshold=0.1
    )
    x = recorded()[1][LAYER]
    rows = x.reshape(-1, 16)
    error = error_through(REST, x, jnp.ones(x.shape[:2], bool), 0.1)
    situation = Situation(jnp.float32(0.5), jnp.zeros(24, bool))
    params = dictionary.init(jax.random.key(3), cfg)

    def loss(params):
        found = dictionary.loss(params, Batch(rows, rows, error), cfg, situation)
        return found.loss, found

    grads, found = jax.jit(jax.grad(loss, has_aux=True))(params)
    said = dictionary.reconstruct(params, rows, cfg)[0] if kind not in ("batch_topk", "matryoshka") else None
    if said is not None:
        np.testing.assert_allclose(found.terms["error"], error(said), rtol=1e-4)
    assert all(np.isfinite(g).all() for g in grads.values()) and np.abs(grads["W_dec"]).max() > 0
