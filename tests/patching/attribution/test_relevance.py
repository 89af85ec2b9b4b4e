"""The rules change no value; what they conserve, and what they say of one layer, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.models.config import ACTIVATIONS
from interp_jax.patching import metrics
from interp_jax.patching.attribution.estimates import attribute
from interp_jax.patching.attribution.linearisation import linearise
from interp_jax.patching.attribution.relevance import Relevance, rules
from interp_jax.patching.prompts import DENOISING, measure, roles
from tests.models.transformer_oracle import BASE, FAMILY
from tests.patching.attribution.naive_patching import contrast

METRIC = metrics.logit_difference(np.array([1, 2, 3]), np.array([4, 5, 6]))
STREAM = ("embed", "blocks.resid_pre", "blocks.resid_mid", "blocks.resid_post")
BIASLESS = dataclasses.replace(
    BASE, d_mlp=6, norm="rms", norm_eps=0.0, positions="rotary", n_kv_heads=2, biases="none", activation="silu"
)


@pytest.mark.parametrize("gated", [False, True])
def test_relevance_of_the_stream_is_the_metric_at_every_layer(gated):
    """Σ activation · coefficient over the stream, of a model without biases; the gradient conserves nothing."""
    cfg = dataclasses.replace(BIASLESS, gated=gated, placement="sandwich" if gated else "pre")
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        run = lambda: measure(params, roles(prompts, DENOISING)[0], cfg, prompts, METRIC)
        found = jax.jit(lambda: linearise(run, STREAM, rules(cfg)))()
        plain = jax.jit(lambda: linearise(run, STREAM))()
        np.testing.assert_array_equal(found.metric, plain.metric)
        for site in STREAM:
            said = lambda run, site=site: (run.activations[site] * run.gradients[site]).sum((-1, -2))
            expected = jnp.broadcast_to(found.metric, said(found).shape)
            np.testing.assert_allclose(said(found), expected, atol=1e-10, err_msg=site)
            assert jnp.abs(said(plain) - expected).max() > 1e-2 or site == "blocks.resid_post"


@pytest.mark.parametrize("attention", ["frozen", "half"])
@pytest.mark.parametrize("name", ["mlp", pytest.param("sandwich, capped, local layers", marks=pytest.mark.slow)])
def test_no_rule_changes_a_value(name, attention):
    cfg = FAMILY[name]
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        found = attribute(params, cfg, prompts, METRIC, method=Relevance(attention))
        plain = attribute(params, cfg, prompts, METRIC)
        np.testing.assert_allclose(found.corrupted, plain.corrupted, atol=1e-12)
        assert not np.allclose(found.effects["blocks.resid_pre"], plain.effects["blocks.resid_pre"])
        frozen = (found.effects["blocks.attn.q"] == 0).all() and (found.effects["blocks.attn.k"] == 0).all()
        assert frozen == (attention == "frozen")


@pytest.mark.parametrize("gated", [False, True])
def test_neurons_pass_on_the_ratio_of_output_to_input(gated):
    """One layer without a norm: coefficients in closed form, at x = 0 too."""
    cfg = dataclasses.replace(
        BASE, n_layers=1, d_mlp=6, norm="none", gated=gated, activation="silu", positions="none", biases="none"
    )
    sites = ("blocks.mlp.pre", *(["blocks.mlp.pre_linear"] if gated else []), "blocks.mlp.post")
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        gate = params["blocks"]["mlp"]["W_gate" if gated else "W_in"]
        params["blocks"]["mlp"]["W_gate" if gated else "W_in"] = gate.at[..., 0].set(0.0)
        run = lambda: measure(params, roles(prompts, DENOISING)[0], cfg, prompts, METRIC)
        found, plain = linearise(run, sites, rules(cfg)), linearise(run, sites)
        post = plain.gradients["blocks.mlp.post"]
        np.testing.assert_allclose(found.gradients["blocks.mlp.post"], post, atol=1e-14)
        pre = plain.activations["blocks.mlp.pre"]
        ratio = np.where(pre == 0, 0.0, plain.activations["blocks.mlp.post"] / np.where(pre == 0, 1.0, pre))
        assert (pre[..., 0] == 0).all() and (pre[..., 1:] != 0).all()
        np.testing.assert_allclose(
            found.gradients["blocks.mlp.pre"], (0.5 if gated else 1.0) * ratio * post, atol=1e-13
        )
        if gated:
            half = 0.5 * ACTIVATIONS["silu"](pre) * post
            np.testing.assert_allclose(found.gradients["blocks.mlp.pre_linear"], half, atol=1e-13)


def test_halves_are_shared_by_the_factors_of_products():
    """One linear layer: values have half their gradient; queries and keys a quarter, half of half of the pattern's."""
    cfg = dataclasses.replace(BASE, n_layers=1, norm="none", positions="rotary", n_kv_heads=2)
    sites = tuple(f"blocks.attn.{part}" for part in ("q", "k", "v", "pattern", "z"))
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        half = attribute(params, cfg, prompts, METRIC, sites=sites, method=Relevance("half")).effects
        plain = attribute(params, cfg, prompts, METRIC, sites=sites).effects
        for site, share in zip(sites, (0.25, 0.25, 0.5, 0.5, 1.0), strict=True):
            np.testing.assert_allclose(half[site], share * plain[site], atol=1e-12, err_msg=site)


def test_an_unknown_rule_is_named():
    with pytest.raises(InputError, match="did you mean 'frozen'"):
        Relevance("froze")
