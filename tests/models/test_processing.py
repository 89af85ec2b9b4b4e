"""Processed weights are the same function: in float64, over the family, with every parameter different from 0 and 1."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import processing, transformer
from interp_jax.models.transformer import TransformerConfig

BASE = TransformerConfig(
    n_layers=2, d_model=10, n_heads=4, d_head=4, d_mlp=6, d_vocab=11, n_context=8, positions="learned"
)
CFGS = {
    "layer norm": BASE,
    "parallel, rotary, tied": dataclasses.replace(BASE, parallel=True, positions="rotary", tied=True),
    "sandwich, rms, offset, gated, grouped, tied": dataclasses.replace(
        BASE, placement="sandwich", norm="rms", norm_offset=1.0, gated=True, n_kv_heads=2, tied=True, biases="none",
        positions="rotary", qk_norm=True, embed_scale=3.0, attention_cap=5.0, logit_cap=4.0,
    ),
    "layer norm without biases, gated, grouped, tied": dataclasses.replace(
        BASE, biases="none", gated=True, n_kv_heads=2, tied=True, positions="rotary"
    ),
    "rms, biases on q, k, v, grouped": dataclasses.replace(
        BASE, norm="rms", biases="qkv", n_kv_heads=1, positions="rotary"
    ),
    "encoder": dataclasses.replace(BASE, placement="post", causal=False, embed_norm=True, head="mlm", d_types=2, tied=True),
    "shortformer, attention only": dataclasses.replace(BASE, d_mlp=0, positions="shortformer", tied=True),
    "stream only": dataclasses.replace(BASE, head="none", d_types=2),
    "no norm": dataclasses.replace(BASE, norm="none"),
}  # fmt: skip
FOLD = ["layer norm", "parallel, rotary, tied", "sandwich, rms, offset, gated, grouped, tied",
        "layer norm without biases, gated, grouped, tied", "rms, biases on q, k, v, grouped", "stream only"]  # fmt: skip
CENTER = ["layer norm", "parallel, rotary, tied", "layer norm without biases, gated, grouped, tied",
          "shortformer, attention only"]  # fmt: skip
UNEMBED = ["layer norm", "parallel, rotary, tied", "rms, biases on q, k, v, grouped", "encoder", "no norm"]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def random_model(cfg):
    rng = np.random.default_rng(0)
    params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    params = jax.tree.map(lambda x: jnp.asarray(0.5 + rng.normal(size=x.shape)), params)
    return params, jnp.asarray(rng.integers(0, cfg.d_vocab, (2, 6)))


def evaluate(params, tokens, cfg):
    function = transformer.stream if cfg.head == "none" else transformer.apply
    return np.asarray(jax.jit(function, static_argnums=2)(params, tokens, cfg))


def processed(function, name):
    """Tokens, parameters before and after, the config after, what came out before and after."""
    cfg = CFGS[name]
    params, tokens = random_model(cfg)
    new, new_cfg = jax.jit(function, static_argnums=1)(params, cfg)
    fresh = jax.eval_shape(lambda: transformer.init(jax.random.key(0), new_cfg))
    assert jax.tree.structure(fresh) == jax.tree.structure(new)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, new)
    return tokens, params, new, new_cfg, evaluate(params, tokens, cfg), evaluate(new, tokens, new_cfg)


def assert_equal(got, expected):
    np.testing.assert_allclose(got, expected, atol=1e-12 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("name", FOLD)
def test_folded_norms_only_normalise(name):
    _, params, new, cfg, before, after = processed(processing.fold_norms, name)
    assert_equal(after, before)
    norms = [new["blocks"]["ln1"], new["blocks"]["ln2"]] + ([new["ln_final"]] if cfg.head != "none" else [])
    for norm in norms:
        assert (norm["w"] + cfg.norm_offset == 1).all() and not np.any(norm.get("b", 0))
    for changed in ("W_Q", "W_K", "W_V"):
        assert jnp.abs(new["blocks"]["attn"][changed] - params["blocks"]["attn"][changed]).min() > 0
    if cfg.head != "none":
        assert not cfg.tied


def test_without_a_norm_there_is_nothing_to_fold():
    cfg = CFGS["no norm"]
    params, _ = random_model(cfg)
    assert processing.fold_norms(params, cfg) == (params, cfg)


@pytest.mark.parametrize("name", CENTER)
def test_centred_weights_write_a_stream_of_mean_zero(name):
    tokens, _, new, cfg, before, after = processed(processing.center_writing_weights, name)
    assert_equal(after, before)
    model = lambda params, tokens: transformer.apply(params, tokens, cfg)
    sites = ("blocks.resid_pre", "blocks.attn.out", "blocks.resid_post")
    _, acts = jax.jit(taps.record(model, sites))(new, tokens)
    for x in acts.values():
        assert jnp.abs(x.mean(-1)).max() < 1e-13 * jnp.abs(x).max()


@pytest.mark.parametrize("name", UNEMBED)
def test_centred_unembedding_leaves_the_log_softmax(name):
    _, _, _, _, before, after = processed(processing.center_unembed, name)
    assert np.abs(after.mean(-1)).max() < 1e-12 * np.abs(before).max()
    shift = before - after
    assert_equal(shift, np.broadcast_to(shift[..., :1], shift.shape))
    assert_equal(jax.nn.log_softmax(after), np.asarray(jax.nn.log_softmax(before)))


@pytest.mark.parametrize("name", CFGS)
def test_value_biases_move_to_the_output(name):
    _, params, new, _, before, after = processed(processing.fold_value_biases, name)
    assert_equal(after, before)
    if "b_V" in params["blocks"]["attn"]:
        assert (new["blocks"]["attn"]["b_V"] == 0).all() and jnp.abs(new["blocks"]["attn"]["b_O"]).min() > 0


@pytest.mark.parametrize("name", ["layer norm", "layer norm without biases, gated, grouped, tied"])
def test_all_four_compose(name):
    def everything(params, cfg):
        for step in ("fold_norms", "center_writing_weights", "center_unembed", "fold_value_biases"):
            params, cfg = getattr(processing, step)(params, cfg)
        return params, cfg

    _, _, new, _, before, after = processed(everything, name)
    assert_equal(jax.nn.log_softmax(after), np.asarray(jax.nn.log_softmax(before)))
    for written in (new["embed"]["W_E"], new["blocks"]["attn"]["b_O"], new["blocks"]["mlp"]["b_out"]):
        assert jnp.abs(written.mean(-1)).max() < 1e-12


def test_float32_stays_float32_and_close():
    cfg = BASE
    params, tokens = random_model(cfg)
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    new, new_cfg = processing.center_writing_weights(*processing.fold_norms(params, cfg))
    assert {x.dtype for x in jax.tree.leaves(new)} == {jnp.dtype(jnp.float32)}
    before, after = evaluate(params, tokens, cfg), evaluate(new, tokens, new_cfg)
    np.testing.assert_allclose(after, before, atol=2e-5 * np.abs(before).max())


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        ("fold_norms", "encoder", "placement = 'post'.*do not fold"),
        ("fold_norms", "shortformer, attention only", "added after ln1"),
        ("center_writing_weights", "rms, biases on q, k, v, grouped", "only layer norm"),
        ("center_writing_weights", "no norm", "only layer norm"),
        ("center_writing_weights", "encoder", "placement = 'post'"),
        ("center_writing_weights", "stream only", "head = 'none'"),
        ("center_unembed", "sandwich, rms, offset, gated, grouped, tied", "logit_cap = 4.0"),
        ("center_unembed", "stream only", "there is no W_U"),
    ],
)
def test_what_a_model_does_not_allow_is_refused(function, name, words):
    params, _ = random_model(CFGS[name])
    with pytest.raises(InputError, match=words):
        getattr(processing, function)(params, CFGS[name])


def test_centring_is_refused_where_a_norm_of_embeddings_writes_to_the_stream():
    cfg = dataclasses.replace(BASE, embed_norm=True)
    with pytest.raises(InputError, match="embed_norm = True"):
        processing.center_writing_weights(random_model(cfg)[0], cfg)
