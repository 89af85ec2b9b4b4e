"""Frozen parts of the stream sum to what heads and MLPs read; applied ones have divisors of their own: in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.anatomy import decomposition, layer_inputs
from interp_jax.anatomy.logit_lens import logit_lens
from interp_jax.errors import InputError
from interp_jax.models import transformer
from tests.anatomy.test_decomposition import CFGS, TOKENS, assert_equal, model_of, random_params

NEEDED = ("blocks.attn.z", "blocks.mlp.post")  # besides components and divisors
COMPARED = ("blocks.ln1.normalized", "blocks.ln2.normalized", "blocks.attn.v", "blocks.mlp.in", "blocks.resid_pre")


def has(site, cfg):
    return (cfg.d_mlp or not any(part in site for part in ("mlp", "ln2"))) and (cfg.norm != "none" or "ln" not in site)


@functools.cache
def recorded(name):
    cfg = CFGS[name]
    scales = [f"blocks.{norm}.scale" for norm in ("ln1", "ln2")]
    scales += [f"blocks.{norm}_post.scale" for norm in ("ln1", "ln2") if cfg.placement == "sandwich"]
    sites = {*decomposition.component_sites(cfg), *NEEDED, *COMPARED, *scales}
    with jax.enable_x64(True):
        params = random_params(cfg)
        record = jax.jit(taps.record(model_of(cfg), sorted(site for site in sites if has(site, cfg))))
        _, acts = record(params, jnp.asarray(TOKENS.swapaxes(0, 1)[0, :2]))
    return cfg, params, acts


@pytest.fixture(params=CFGS)
def model(request):
    with jax.enable_x64(True):
        yield recorded(request.param)


def norms_of(cfg):
    return [(norm, layer) for norm in (("ln1", "ln2") if cfg.d_mlp else ("ln1",)) for layer in range(cfg.n_layers)]


def weights_of(params, cfg, norm, layer):
    """Weight and shift of a norm; 1 and 0 where there is none."""
    weights = params["blocks"][norm]
    w, b = (np.asarray(weights[x])[layer] if x in weights else 0.0 for x in ("w", "b"))
    return (w + cfg.norm_offset if cfg.norm != "none" else 1.0), b


def test_frozen_components_sum_to_what_is_read(model):
    cfg, params, acts = model
    parts = decomposition.components(params, acts, cfg)
    for norm, layer in norms_of(cfg):
        before = parts[: layer_inputs.n_parts_read(cfg, norm, layer)]
        frozen, shift = layer_inputs.freeze_layer_norm(params, acts, cfg, norm, layer, before)
        assert frozen.shape == before.shape
        w, b = weights_of(params, cfg, norm, layer)
        normalised = acts["blocks.resid_pre" if cfg.norm == "none" else f"blocks.{norm}.normalized"][layer]
        assert_equal(np.asarray(frozen.sum(0)), np.asarray(normalised) * w)
        np.testing.assert_array_equal(np.broadcast_to(shift, np.shape(b)), b)
        if norm == "ln2":
            assert_equal(np.asarray(frozen.sum(0) + shift), np.asarray(acts["blocks.mlp.in"][layer]))


def test_what_values_are_made_of_is_what_heads_read(model):
    cfg, params, acts = model
    parts, attn = decomposition.components(params, acts, cfg), params["blocks"]["attn"]
    for layer in range(cfg.n_layers):
        before = parts[: layer_inputs.n_parts_read(cfg, "ln1", layer)]
        frozen, shift = layer_inputs.freeze_layer_norm(params, acts, cfg, "ln1", layer, before)
        of_parts = jnp.einsum("cbpd,gde->cbpge", frozen, attn["W_V"][layer])
        rest = jnp.einsum("d,gde->ge", jnp.broadcast_to(shift, cfg.d_model), attn["W_V"][layer])
        bias = attn["b_V"][layer] if "b_V" in attn else 0.0
        assert_equal(np.asarray(of_parts.sum(0) + rest + bias), np.asarray(acts["blocks.attn.v"][layer]))


def test_heads_and_neurons_of_the_first_layer_are_parts_of_what_the_second_reads(model):
    cfg, params, acts = model
    parts = decomposition.components(params, acts, cfg)
    freeze = functools.partial(layer_inputs.freeze_layer_norm, params, acts, cfg, "ln1", 1)
    n_embed = layer_inputs.n_parts_read(cfg, "ln1", 0)
    outputs = [decomposition.head_outputs(params, acts, cfg)]
    outputs += [decomposition.neuron_outputs(params, acts, cfg)] if cfg.d_mlp else []
    total = freeze(parts[:n_embed]).parts.sum(0)
    for each, rest in outputs:
        total += freeze(jnp.moveaxis(each[0], 2, 0)).parts.sum(0) + freeze(rest[0]).parts
    whole = freeze(parts[: layer_inputs.n_parts_read(cfg, "ln1", 1)]).parts.sum(0)
    assert_equal(np.asarray(total), np.asarray(whole))


def test_an_applied_part_has_a_divisor_of_its_own(model):
    cfg, params, acts = model
    parts = decomposition.components(params, acts, cfg)
    for norm, layer in norms_of(cfg):
        before = parts[: layer_inputs.n_parts_read(cfg, norm, layer)]
        applied = np.asarray(layer_inputs.apply_layer_norm(params, cfg, norm, layer, before))
        x = np.asarray(before)
        if cfg.norm != "none":
            x = x - x.mean(-1, keepdims=True) if cfg.norm == "layer" else x
            x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + cfg.norm_eps)
        w, b = weights_of(params, cfg, norm, layer)
        assert_equal(applied, x * w + b)
        stream = decomposition.accumulate(before)[-1]  # the whole of what is read is one part
        whole = layer_inputs.freeze_layer_norm(params, acts, cfg, norm, layer, before)
        applied = layer_inputs.apply_layer_norm(params, cfg, norm, layer, stream)
        assert_equal(np.asarray(applied), np.asarray(whole.parts.sum(0) + whole.shift))


def test_the_final_norm_applied_to_accumulated_streams_is_the_logit_lens(model):
    cfg, params, acts = model
    streams = decomposition.accumulate(decomposition.components(params, acts, cfg))
    read = layer_inputs.apply_final_norm(params, cfg, streams)
    W_U = params["embed"]["W_E"].T if cfg.tied else params["unembed"]["W_U"]
    logits = read @ W_U + params["unembed"].get("b_U", 0.0)
    assert_equal(np.asarray(logits), np.asarray(logit_lens(params, streams, cfg)))


def test_what_makes_no_sense_is_named():
    cfg = CFGS["layer norm"]
    params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    parts = jnp.zeros((1, 2, 10))
    freeze = functools.partial(layer_inputs.freeze_layer_norm, params, {}, parts=parts)
    for change, norm, layer, words in (
        ({}, "ln3", 0, "norm = 'ln3': did you mean 'ln"),
        ({}, "ln1", 2, "layer = 2: layers go from 0 to 1"),
        ({"d_mlp": 0}, "ln2", 0, "a model without MLPs"),
        ({"placement": "post"}, "ln1", 0, "not a sum of parts"),
    ):
        changed = dataclasses.replace(cfg, **change)
        for act in (
            lambda: layer_inputs.n_parts_read(changed, norm, layer),  # noqa: B023
            lambda: freeze(changed, norm, layer),  # noqa: B023
            lambda: layer_inputs.apply_layer_norm(params, changed, norm, layer, parts),  # noqa: B023
        ):
            with pytest.raises(InputError, match=words):
                act()
    with pytest.raises(InputError, match="'blocks.ln2.scale' is needed and was not recorded"):
        layer_inputs.freeze_layer_norm(random_params(cfg), {}, cfg, "ln2", 0, parts)
    with pytest.raises(InputError, match="head = 'mlm'"):
        layer_inputs.apply_final_norm(params, dataclasses.replace(cfg, head="mlm"), parts)
