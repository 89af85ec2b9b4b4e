"""Circuits of heads against what a model without norms does, and in the circuit built by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.anatomy import factored, head_circuits
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.transformer import TransformerConfig

PLAIN = TransformerConfig(
    n_layers=1, d_model=10, n_heads=4, n_kv_heads=2, d_head=3, d_vocab=11, n_context=8, norm="none", positions="none",
    biases="none", embed_scale=1.5,
)  # fmt: skip


@pytest.mark.parametrize("change", [{}, {"tied": True, "attention_scale": 0.7}])
def test_one_layer_is_its_direct_path_and_its_circuits(change):
    """Without norms: scores = QK[query token, key token]; logits = W_E W_U + Σ_h pattern_h OV_h[key token]."""
    cfg = dataclasses.replace(PLAIN, **change)
    model = lambda params, tokens: transformer.apply(params, tokens, cfg)
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
        params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), shapes)
        tokens = jnp.asarray(rng.integers(0, 11, (2, 6)))
        sites = ("blocks.attn.scores", "blocks.attn.pattern")
        logits, acts = jax.jit(taps.record(model, sites))(params, tokens)
        qk = np.asarray(factored.dense(head_circuits.qk_circuit(params, cfg)))[0]
        ov = np.asarray(factored.dense(head_circuits.ov_circuit(params, cfg)))[0]
    for b, row in enumerate(np.asarray(tokens)):
        np.testing.assert_allclose(acts["blocks.attn.scores"][0, b], qk[:, row][:, :, row], rtol=1e-11, atol=1e-11)
        W_E = np.asarray(params["embed"]["W_E"])
        W_U = W_E.T if cfg.tied else np.asarray(params["unembed"]["W_U"])
        said = np.einsum("hqk,hkv->qv", acts["blocks.attn.pattern"][0, b], ov[:, row])
        np.testing.assert_allclose(logits[b], 1.5 * W_E[row] @ W_U + said, rtol=1e-11, atol=1e-11)


def test_in_the_induction_circuit_head_1_0_copies_and_three_heads_match():
    params, cfg = induction_circuit(d_vocab=6, n_context=10, sharpness=50.0)
    copying = jax.jit(head_circuits.copying_score, static_argnums=1)(params, cfg)
    np.testing.assert_allclose(copying, [[0, 0], [1, 0]], atol=1e-6)
    ov = factored.dense(head_circuits.ov_circuit(params, cfg))
    np.testing.assert_allclose(ov[1, 0], 50 * np.eye(6), atol=1e-5)
    matching = jax.jit(head_circuits.matching_score, static_argnums=1)(params, cfg)
    np.testing.assert_allclose(matching, [[0, 1], [0, 0]], atol=1e-6)  # 1.0 matches by way of 0.0, not by itself
    np.testing.assert_allclose(factored.dense(head_circuits.qk_circuit(params, cfg))[0, 1], 50 * np.eye(6), atol=1e-4)


def test_a_head_that_makes_its_token_unlikely_has_the_score_minus_one():
    params, cfg = induction_circuit(d_vocab=6, n_context=10)
    params["unembed"]["W_U"] = -params["unembed"]["W_U"]
    np.testing.assert_allclose(head_circuits.copying_score(params, cfg)[1, 0], -1, atol=1e-6)


def test_without_logits_there_is_no_circuit_to_them():
    params, cfg = induction_circuit(d_vocab=6, n_context=10)
    with pytest.raises(InputError, match="head = 'none'"):
        head_circuits.copying_score(params, dataclasses.replace(cfg, head="none"))
