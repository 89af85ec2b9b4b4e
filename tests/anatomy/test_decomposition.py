"""Parts of the stream sum to the stream, and what they say to the logits: in float64, over the family."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.anatomy import decomposition, logit_attribution
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.transformer import TransformerConfig

BASE = TransformerConfig(
    n_layers=2, d_model=10, n_heads=4, d_head=4, d_mlp=6, d_vocab=11, n_context=8, positions="learned"
)
CFGS = {
    "layer norm": BASE,
    "parallel, rms, rotary, tied, grouped": dataclasses.replace(
        BASE, parallel=True, norm="rms", norm_offset=1.0, positions="rotary", tied=True, n_kv_heads=2, biases="qkv"
    ),
    "sandwich, layer norm, gated": dataclasses.replace(BASE, placement="sandwich", gated=True, embed_scale=2.0),
    "norm of embeddings, types": dataclasses.replace(BASE, embed_norm=True, d_types=2),
    "attention only, shortformer, no norm": dataclasses.replace(BASE, d_mlp=0, positions="shortformer", norm="none"),
}  # fmt: skip
TOKENS = np.random.default_rng(1).integers(0, 11, (2, 3, 6))  # inputs, answers, others


def model_of(cfg):
    return lambda params, tokens: transformer.apply(params, tokens, cfg)


def random_params(cfg):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    return jax.tree.map(lambda x: jnp.asarray(0.5 + rng.normal(size=x.shape)), shapes)


def sites(cfg):
    """Those that the functions need, and those that they are compared with."""
    compared = ["blocks.attn.result", "blocks.resid_post", "unembed.in"]
    compared += ["blocks.resid_mid"] if cfg.d_mlp and not cfg.parallel else []
    return (*logit_attribution.attribution_sites(cfg), *compared)


@functools.cache
def analysed(name):
    """Everything about one model, by one program."""
    cfg = CFGS[name]

    def analyse(params, tokens, answers, others):
        logits, acts = taps.record(model_of(cfg), sites(cfg))(params, tokens)
        readout = logit_attribution.logit_readout(params, acts, cfg, answers, others)
        parts = decomposition.components(params, acts, cfg)
        found = {
            "logits": logits, "acts": acts, "readout": readout, "parts": parts,
            "streams": decomposition.accumulate(parts),
            "heads": decomposition.head_outputs(params, acts, cfg),
            "frozen": decomposition.freeze_final_norm(params, acts, cfg, parts),
            "said": logit_attribution.attribute(parts, readout),
            "heads_said": logit_attribution.attribute_heads(params, acts, cfg, readout),
        }  # fmt: skip
        if cfg.d_mlp:
            found["neurons"] = decomposition.neuron_outputs(params, acts, cfg)
            found["neurons_said"] = logit_attribution.attribute_neurons(params, acts, cfg, readout)
        return found

    with jax.enable_x64(True):
        params = random_params(cfg)
        found = jax.jit(analyse)(params, *(jnp.asarray(rows) for rows in TOKENS.swapaxes(0, 1)[:, :2]))
    return cfg, params, jax.tree.map(np.asarray, found)


def assert_equal(got, expected):
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-12 * np.abs(expected).max(), rtol=0)


@pytest.fixture(params=CFGS)
def analysis(request):
    return analysed(request.param)


def test_components_sum_to_the_stream(analysis):
    cfg, _, found = analysis
    assert len(found["parts"]) == len(decomposition.component_names(cfg))
    assert_equal(found["parts"].sum(0), found["acts"]["blocks.resid_post"][-1])


def test_accumulated_components_are_the_streams(analysis):
    cfg, _, found = analysis
    names, streams = decomposition.component_names(cfg), found["streams"]
    for layer in range(cfg.n_layers):
        if "blocks.resid_mid" in found["acts"]:
            at = names.index(f"blocks.{layer}.attn.out")
            assert_equal(streams[at], found["acts"]["blocks.resid_mid"][layer])
        last = names.index(f"blocks.{layer}.{'mlp' if cfg.d_mlp else 'attn'}.out")
        assert_equal(streams[last], found["acts"]["blocks.resid_post"][layer])


def test_heads_and_neurons_sum_to_what_their_layers_say(analysis):
    cfg, _, found = analysis
    assert_equal(found["heads"].heads.sum(3) + found["heads"].rest, found["acts"]["blocks.attn.out"])
    if cfg.placement != "sandwich":
        assert_equal(found["heads"].heads, found["acts"]["blocks.attn.result"])
    if cfg.d_mlp:
        assert_equal(found["neurons"].neurons.sum(3) + found["neurons"].rest, found["acts"]["blocks.mlp.out"])


def test_frozen_parts_sum_to_what_the_unembedding_reads(analysis):
    _, params, found = analysis
    shift = np.asarray(params["ln_final"].get("b", 0.0))
    assert_equal(found["frozen"].sum(0) + shift, found["acts"]["unembed.in"])


def test_attributions_sum_to_the_difference_of_logits(analysis):
    _, _, found = analysis
    _, answers, others = TOKENS.swapaxes(0, 1)[:, :2]
    read = lambda tokens: np.take_along_axis(found["logits"], tokens[..., None], -1)[..., 0]
    assert_equal(found["said"].sum(0) + found["readout"].constant, read(answers) - read(others))


def test_heads_and_neurons_say_what_their_outputs_say(analysis):
    cfg, _, found = analysis
    direction = found["readout"].direction
    pairs = [("heads", "heads_said", "blocks.attn.out")]
    pairs += [("neurons", "neurons_said", "blocks.mlp.out")] if cfg.d_mlp else []
    for outputs, said, site in pairs:
        (parts, rest), (each, remainder) = found[outputs], found[said]
        assert_equal(each, np.einsum("lbpnd,bpd->lbpn", parts, direction))
        assert_equal(remainder, np.einsum("lbpd,bpd->lbp", rest, direction))
        assert_equal(each.sum(-1) + remainder, np.einsum("lbpd,bpd->lbp", found["acts"][site], direction))


def test_one_answer_for_all_positions_and_no_other():
    cfg, params, found = analysed("layer norm")
    with jax.enable_x64(True):
        acts = {site: jnp.asarray(found["acts"][site]) for site in ("blocks.attn.out", "ln_final.scale")}
        readout = logit_attribution.logit_readout(params, acts, cfg, jnp.array([[3], [5]]))
        said = logit_attribution.attribute(jnp.asarray(found["parts"]), readout).sum(0) + readout.constant
    assert_equal(np.asarray(said), np.stack([found["logits"][0, :, 3], found["logits"][1, :, 5]]))


def test_the_induction_head_says_what_follows():
    """In the circuit built by hand, all that is said for the token that follows comes from head 1.0."""
    params, cfg = induction_circuit(d_vocab=6, n_context=10)
    tokens = jnp.array([[4, 1, 3, 0, 2, 4, 1, 3, 0]])
    logits, acts = jax.jit(taps.record(model_of(cfg), ("blocks.attn.out", "blocks.attn.z")))(params, tokens)
    following = jnp.roll(tokens, -1)
    readout = logit_attribution.logit_readout(params, acts, cfg, following)
    heads, rest = logit_attribution.attribute_heads(params, acts, cfg, readout)
    second_copy = slice(6, 8)  # of 4 the copy is at position 0, where the circuit looks half aside
    true = np.take_along_axis(np.asarray(logits), np.asarray(following)[..., None], -1)[..., 0]
    np.testing.assert_allclose(heads[1, :, second_copy, 0], true[:, second_copy], rtol=1e-6)
    assert (true[:, second_copy] > 49).all()
    others = np.array(heads)
    others[1, :, :, 0] = 0
    assert np.abs(others).max() == 0 and np.abs(rest).max() == 0


def test_what_is_missing_or_makes_no_sense_is_named():
    cfg = BASE
    params = jax.tree.map(lambda x: x.astype(jnp.float32), random_params(cfg))
    with pytest.raises(InputError, match="'blocks.attn.out' is needed and was not recorded"):
        decomposition.components(params, {"embed": jnp.zeros((1, 2, 10))}, cfg)
    with pytest.raises(InputError, match="at all 2 layers, got 1"):
        decomposition.components(params, {"blocks.attn.out": jnp.zeros((1, 1, 2, 10))}, cfg)
    acts = {"blocks.attn.out": jnp.zeros((2, 1, 2, 10)), "ln_final.scale": jnp.ones((1, 2, 1))}
    with pytest.raises(InputError, match="token 11"):
        logit_attribution.logit_readout(params, acts, cfg, jnp.array([[11, 0]]))
    with pytest.raises(InputError, match="no neurons"):
        decomposition.neuron_outputs(params, acts, dataclasses.replace(cfg, d_mlp=0))
    with pytest.raises(InputError, match="not a sum of parts"):
        decomposition.components(params, acts, dataclasses.replace(cfg, placement="post"))
    with pytest.raises(InputError, match="head = 'mlm'"):
        decomposition.freeze_final_norm(params, acts, dataclasses.replace(cfg, head="mlm"), jnp.zeros((1, 2, 10)))
