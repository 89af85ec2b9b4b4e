"""The logit lens: the last layer is the model, each layer is a model cut short, and scores by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax import taps
from interp_jax.anatomy import logit_lens
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

CFG = TransformerConfig(
    n_layers=3, d_model=10, n_heads=2, d_head=4, d_mlp=6, d_vocab=11, n_context=8, positions="learned"
)


def test_every_layer_is_the_model_cut_short_there():
    model = jax.jit(transformer.apply, static_argnums=2)
    recorded = jax.jit(
        taps.record(lambda params, tokens: transformer.apply(params, tokens, CFG), ["blocks.resid_post"])
    )
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 6)))
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), CFG))
        params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), shapes)
        logits, acts = recorded(params, tokens)
        seen = logit_lens.logit_lens(params, acts["blocks.resid_post"], CFG)
        assert seen.shape == (3, 2, 6, 11) and seen.dtype == jnp.float64
        np.testing.assert_allclose(seen[-1], logits, rtol=1e-12)
        for layers in (1, 2):
            cut = params | {"blocks": jax.tree.map(lambda w: w[:layers], params["blocks"])}  # noqa: B023
            short = model(cut, tokens, dataclasses.replace(CFG, n_layers=layers))
            np.testing.assert_allclose(seen[layers - 1], short, rtol=1e-10)


def test_scores_by_hand():
    p = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    logits = jnp.log(p)[:, None, None] + 3.0  # [L 1 1 V]; a shift of logits means nothing
    got = jax.jit(logit_lens.lens_scores)(logits, jnp.array([[2]]))
    np.testing.assert_allclose(got.log_probability[:, 0, 0], np.log([0.3, 0.1]), rtol=1e-5)
    np.testing.assert_array_equal(got.rank[:, 0, 0], [1, 2])
    np.testing.assert_allclose(got.kl_to_last[:, 0, 0], [(p[1] * np.log(p[1] / p[0])).sum(), 0], atol=1e-6)


def test_a_target_beyond_the_vocabulary_has_no_score():
    for target in (3, -1):
        got = logit_lens.lens_scores(jnp.zeros((1, 1, 1, 3)), jnp.array([[target]]))
        assert np.isnan(got.log_probability).all() and (got.rank == 3).all()
