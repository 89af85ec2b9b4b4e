"""Everything inside the model changes with an earlier token, and nothing that is patched changes its answer."""

import dataclasses

import jax
import numpy as np
import pytest

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.no_effect_model import no_effect_model, no_effect_prompts
from tests.models import circuit_oracle

CFG = transformer.TransformerConfig(
    n_layers=3, d_model=24, n_heads=4, d_head=6, d_vocab=12, n_context=8, norm="none", biases="none",
    positions="learned", query_key_gain=2.0,
)  # fmt: skip


def test_all_changes_but_the_answer():
    with jax.enable_x64(True):
        params = no_effect_model(randomness.key(0, "model"), CFG)
        prompts = no_effect_prompts(randomness.key(0, "prompts"), CFG, 30, 7)
        assert ((prompts.clean != prompts.corrupted).sum(1) == 1).all()
        np.testing.assert_array_equal(prompts.clean[:, -1], prompts.corrupted[:, -1])
        assert (prompts.answers != prompts.others).all()
        sites = (*(f"blocks.attn.{site}" for site in ("q", "k", "pattern", "z")), "blocks.resid_post")
        clean, corrupted = (
            circuit_oracle.activations(params, tokens, CFG, sites) for tokens in (prompts.clean, prompts.corrupted)
        )
        change = {site: np.abs(np.asarray(clean[site] - corrupted[site])) for site in sites}
        last = change["blocks.attn.pattern"][:, :, :, -1].max(-1)  # [L B H]
        assert (last.max(1) > 0.01).all()
        assert (change["blocks.attn.z"][:, :, -1, 1::2].max((1, 3)) > 0.01).all()
        assert change["blocks.attn.z"][:, :, -1, ::2].max() < 1e-12
        assert (change["blocks.resid_post"][:, :, -1].max(2) > 0.001).all()
        logits = jax.jit(transformer.apply, static_argnums=2)
        here, there = (logits(params, tokens, CFG)[:, -1] for tokens in (prompts.clean, prompts.corrupted))
        np.testing.assert_allclose(here, there, atol=1e-12)
        assert np.asarray(here).std() > 0.1
        base = circuit_oracle.unpatched(params, prompts.corrupted, CFG, prompts)
        patched = circuit_oracle.heads(params, prompts.corrupted, prompts.clean, prompts, CFG)
        np.testing.assert_allclose(patched, np.broadcast_to(base, patched.shape), atol=1e-12)


def test_configs_whose_paths_would_stay_open_are_refused():
    for change in ({"norm": "layer"}, {"d_mlp": 8}, {"biases": "all"}, {"n_kv_heads": 2}):
        with pytest.raises(InputError, match="a model without effects is causal and attention-only"):
            no_effect_model(randomness.key(0, "model"), dataclasses.replace(CFG, **change))
    with pytest.raises(InputError, match="9 positions of 12 tokens: give 2 to 8"):
        no_effect_prompts(randomness.key(0, "prompts"), CFG, 1, 9)
