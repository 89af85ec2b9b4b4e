"""State dicts of TransformerLens without TransformerLens: names, shapes, round trips, refusals.

That a HookedTransformer with these weights computes what our model does is tested in `tests/parity/test_transformer_lens.py`.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.sites import SITES
from interp_jax.models.transformer import TransformerConfig
from tests.models.transformer_oracle import BASE, FAMILY, MLP, random_model
from third_party import transformer_lens
from third_party.safetensors_io import open_checkpoint
from third_party.safetensors_writer_io import write_checkpoint

REFUSED = {
    "no norm, relative": "model.positions = 'relative'",
    "upper layers see no positions": "model.position_layers = 1",
    "gated, windowed, scaled rotary": "model.rotary_gain = 1.2",
}
EXPRESSED = [name for name in FAMILY if name not in REFUSED]
GATED = dataclasses.replace(MLP, gated=True, activation="silu", norm="rms", positions="rotary", n_kv_heads=2)


def written(tmp_path, cfg, change=lambda tensors: None):
    """A model's state dict in a directory, changed; and its parameters."""
    params, _ = random_model(cfg)
    transformer_lens.save(tmp_path, params, cfg)
    with open_checkpoint(tmp_path) as checkpoint:
        tensors = {name: np.array(checkpoint.read(name)) for name in checkpoint.names()}
    change(tensors)
    write_checkpoint(tmp_path, tensors)
    return params


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(x.dtype == y.dtype for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    jax.tree.map(np.testing.assert_array_equal, a, b)


def shapes(tmp_path, cfg):
    params, _ = random_model(cfg)
    transformer_lens.save(tmp_path, params, cfg)
    with open_checkpoint(tmp_path) as checkpoint:
        return {name: checkpoint.shape(name) for name in checkpoint.names()}


@pytest.mark.parametrize("name", EXPRESSED)
def test_what_is_written_is_read_bit_for_bit(name, tmp_path):
    params, _ = random_model(FAMILY[name])
    transformer_lens.save(tmp_path, params, FAMILY[name])
    equal(transformer_lens.load(tmp_path, FAMILY[name]), params)


@pytest.mark.parametrize("name", EXPRESSED)
def test_the_written_configuration_describes_the_same_function(name, tmp_path):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    transformer_lens.save(tmp_path, params, cfg)
    read = transformer_lens.read_config(tmp_path)
    logits = transformer.apply(transformer_lens.load(tmp_path, read), tokens, read)
    np.testing.assert_allclose(logits, transformer.apply(params, tokens, cfg), rtol=2e-5, atol=2e-5)
    assert transformer_lens.config_from(transformer_lens.config_of(read)) == read


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_other_dtypes_are_kept(dtype, tmp_path):
    cfg = FAMILY["sandwich, capped, local layers"]
    if dtype == jnp.float64:
        cfg = dataclasses.replace(cfg, norm_offset=0.0)  # 1 + w is rounded where there is no wider dtype
    with jax.enable_x64(dtype == jnp.float64):
        params = jax.tree.map(lambda x: x.astype(dtype), random_model(cfg)[0])
        transformer_lens.save(tmp_path, params, cfg)
        equal(transformer_lens.load(tmp_path, cfg), params)
        assert transformer_lens.load(tmp_path, cfg, dtype=jnp.float32)["embed"]["W_E"].dtype == jnp.float32


def test_a_file_is_read_onto_the_devices_asked_for(tmp_path):
    params, _ = random_model(MLP)
    transformer_lens.save(tmp_path, params, MLP)
    asked = {}

    def sharding(path, shape):
        asked[path] = shape
        return jax.sharding.SingleDeviceSharding(jax.devices()[1]) if path == "blocks/mlp/W_in" else None

    read = transformer_lens.load(tmp_path / "model.safetensors", MLP, sharding=sharding)
    equal(read, params)
    assert read["blocks"]["mlp"]["W_in"].devices() == {jax.devices()[1]}
    assert asked["blocks/mlp/W_in"] == (2, 12, 16) and len(asked) == len(jax.tree.leaves(params))


def test_names_and_shapes_of_a_decoder(tmp_path):
    cfg = TransformerConfig(
        n_layers=1, d_model=6, n_heads=4, d_head=3, d_mlp=8, d_vocab=11, n_context=9, positions="learned"
    )
    assert shapes(tmp_path, cfg) == {
        "embed.W_E": (11, 6), "pos_embed.W_pos": (9, 6),
        "blocks.0.ln1.w": (6,), "blocks.0.ln1.b": (6,), "blocks.0.ln2.w": (6,), "blocks.0.ln2.b": (6,),
        "blocks.0.attn.W_Q": (4, 6, 3), "blocks.0.attn.W_K": (4, 6, 3), "blocks.0.attn.W_V": (4, 6, 3),
        "blocks.0.attn.W_O": (4, 3, 6), "blocks.0.attn.b_Q": (4, 3), "blocks.0.attn.b_K": (4, 3),
        "blocks.0.attn.b_V": (4, 3), "blocks.0.attn.b_O": (6,),
        "blocks.0.mlp.W_in": (6, 8), "blocks.0.mlp.b_in": (8,), "blocks.0.mlp.W_out": (8, 6), "blocks.0.mlp.b_out": (6,),
        "ln_final.w": (6,), "ln_final.b": (6,), "unembed.W_U": (6, 11), "unembed.b_U": (11,),
    }  # fmt: skip


def test_names_and_shapes_of_grouped_keys_gated_mlps_and_further_norms(tmp_path):
    cfg = dataclasses.replace(GATED, n_layers=1, placement="sandwich", qk_norm=True, biases="none")
    found = shapes(tmp_path, cfg)
    assert {name: found[name] for name in found if "_K" in name or "_V" in name or "norm" in name or "mlp" in name} == {
        "blocks.0.attn._W_K": (2, 12, 4), "blocks.0.attn._W_V": (2, 12, 4),
        "blocks.0.attn._b_K": (2, 4), "blocks.0.attn._b_V": (2, 4),
        "blocks.0.attn.q_norm.w": (4,), "blocks.0.attn.k_norm.w": (4,),
        "blocks.0.mlp.W_in": (12, 16), "blocks.0.mlp.W_gate": (12, 16), "blocks.0.mlp.W_out": (16, 12),
        "blocks.0.mlp.b_in": (16,), "blocks.0.mlp.b_out": (12,),
    }  # fmt: skip
    assert {name for name in found if ".ln" in name} == {
        f"blocks.0.{n}.w" for n in ("ln1", "ln1_post", "ln2", "ln2_post")
    }
    assert "pos_embed.W_pos" not in found


def test_names_and_shapes_of_an_encoder(tmp_path):
    found = shapes(tmp_path, FAMILY["encoder"])
    assert {name: found[name] for name in found if not name.startswith("blocks")} == {
        "embed.embed.W_E": (11, 12), "embed.pos_embed.W_pos": (9, 12), "embed.token_type_embed.W_token_type": (2, 12),
        "embed.ln.w": (12,), "embed.ln.b": (12,),
        "mlm_head.W": (12, 12), "mlm_head.b": (12,), "mlm_head.ln.w": (12,), "mlm_head.ln.b": (12,),
        "unembed.W_U": (12, 11), "unembed.b_U": (11,),
    }  # fmt: skip


def test_gemmas_weights_are_multiplied_out(tmp_path):
    cfg = FAMILY["sandwich, capped, local layers"]
    params, _ = random_model(cfg)
    tensors = dict(transformer_lens.state_dict(params, cfg))
    np.testing.assert_array_equal(tensors["embed.W_E"], params["embed"]["W_E"] * np.float32(3))
    np.testing.assert_array_equal(tensors["unembed.W_U"], params["embed"]["W_E"].T)
    np.testing.assert_allclose(tensors["blocks.1.ln1.w"], 1.0 + params["blocks"]["ln1"]["w"][1], rtol=1e-6)
    assert not tensors["blocks.0.attn.b_Q"].any() and not tensors["unembed.b_U"].any()


def test_the_configuration_is_json_with_the_names_of_transformer_lens(tmp_path):
    transformer_lens.save(tmp_path, random_model(MLP)[0], MLP)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described == transformer_lens.config_of(MLP)
    expected = {
        "n_layers": 2,
        "n_ctx": 9,
        "d_mlp": 16,
        "act_fn": "gelu_new",
        "normalization_type": "LN",
        "attn_scale": 2.0,
    }
    assert expected.items() <= described.items()
    assert transformer_lens.config_of(FAMILY["encoder"])["original_architecture"] == "BertForMaskedLM"


def test_buffers_and_other_heads_are_left_out(tmp_path):
    def change(tensors):
        tensors |= {"blocks.0.attn.mask": np.ones((9, 9), bool), "blocks.1.attn.IGNORE": np.float32(-np.inf)}
        tensors |= {"pooler.W": np.ones((12, 12)), "nsp_head.b": np.ones(2)}

    params = written(tmp_path, FAMILY["encoder"], change)
    equal(transformer_lens.load(tmp_path, FAMILY["encoder"]), params)
    written(tmp_path, MLP, change)
    with pytest.raises(InputError, match="'nsp_head.b' of shape .2. is none of this model's"):
        transformer_lens.load(tmp_path, MLP)


def test_folded_norms_are_read_as_norms_that_change_nothing(tmp_path):
    def fold(tensors):
        for name in [name for name in tensors if ".ln" in name or "ln_final" in name]:
            del tensors[name]

    cfg = dataclasses.replace(GATED, biases="none", norm_offset=1.0)
    written(tmp_path, cfg, fold)
    params = transformer_lens.load(tmp_path, cfg)
    assert not any(params["blocks"][n]["w"].any() for n in ("ln1", "ln2")) and not params["ln_final"]["w"].any()
    described = transformer_lens.config_of(cfg) | {"normalization_type": "RMSPre"}
    assert transformer_lens.config_from(described).norm == "rms"


def test_as_many_key_heads_as_heads_have_either_name(tmp_path):
    cfg = dataclasses.replace(BASE, n_kv_heads=4)
    params = written(tmp_path, cfg)
    equal(transformer_lens.load(tmp_path, BASE), params)
    written(tmp_path, BASE)
    equal(transformer_lens.load(tmp_path, cfg), params)
    assert "blocks.0.attn.W_K" in shapes(tmp_path, dataclasses.replace(FAMILY["encoder"], n_kv_heads=4))


@pytest.mark.parametrize("name", REFUSED)
def test_what_transformer_lens_cannot_express_names_the_field(name, tmp_path):
    with pytest.raises(InputError, match=REFUSED[name]):
        transformer_lens.save(tmp_path, random_model(FAMILY[name])[0], FAMILY[name])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("start", "changes"),
    [
        ("mlp", {"embed_norm": True}),
        ("mlp", {"d_types": 2}),
        ("mlp", {"head": "none"}),
        ("mlp", {"placement": "sandwich", "norm": "layer"}),
        ("mlp", {"causal": False, "window": 3}),
        ("encoder", {"norm": "rms"}),
        ("encoder", {"head": "none"}),
        ("encoder", {"activation": "gelu"}),
        ("encoder", {"d_types": 3}),
        ("encoder", {"d_mlp": 0}),
        ("encoder", {"positions": "rotary"}),
        ("encoder", {"n_kv_heads": 2}),
        ("relu, rms, rotary", {"rotary_factors": (0.5, 0.1)}),
        ("sandwich, capped, local layers", {"rotary_factors": (0.5, 0.5), "local_rotary_base": 0.0}),
    ],
)
def test_each_field_out_of_reach_is_named(start, changes):
    cfg = dataclasses.replace(FAMILY[start], **changes)
    field = (
        next(iter(changes)) if changes.keys() != {"placement", "norm"} and "causal" not in changes else "(norm|window)"
    )
    with pytest.raises(InputError, match=f"model.{field}"):
        transformer_lens.config_of(cfg)


def llama3(factor=8.0):
    n = np.arange(4)
    turns = 8192 * 500_000.0 ** (-n / 4) / (2 * np.pi)
    mixed = np.clip((turns - 1) / 3, 0, 1)
    return tuple((1 - mixed) / factor + mixed)


@pytest.mark.parametrize(
    "changes",
    [
        {"rotary_factors": (0.25,) * 4},
        {"rotary_factors": llama3(), "rotary_base": 500_000.0},
        {"rotary_factors": (0.125,) * 4, "window": 3, "local_layers": (True, False), "local_rotary_base": 100.0},
        {"window": 5},
    ],
)
def test_rotary_scalings_and_windows_come_back(changes):
    cfg = dataclasses.replace(GATED, d_head=8, **changes)
    read = transformer_lens.config_from(transformer_lens.config_of(cfg))
    assert read.local_rotary_base == cfg.local_rotary_base and read.window == cfg.window
    assert read.local_layers == (cfg.local_layers or (True, True) if cfg.window else ())
    np.testing.assert_allclose(read.rotary_factors or (1.0,), cfg.rotary_factors or (1.0,), rtol=1e-12)


SETTINGS = {"n_layers": 1, "d_model": 8, "d_head": 4, "n_ctx": 5, "d_vocab": 7}


def test_defaults_are_those_of_transformer_lens():
    cfg = transformer_lens.config_from(
        SETTINGS | {"device": "cpu", "n_params": 3, "d_vocab_out": 7, "attn_scale": 2.0}
    )
    assert cfg == TransformerConfig(
        n_layers=1, d_model=8, n_heads=2, d_head=4, d_mlp=32, d_vocab=7, n_context=5, activation="relu",
        positions="learned", norm_cast_first=True,
    )  # fmt: skip
    assert transformer_lens.config_from(SETTINGS | {"normalization_type": None}).norm == "none"
    assert transformer_lens.config_from(SETTINGS | {"use_attn_scale": False}).attention_scale == 1.0
    assert transformer_lens.config_from(SETTINGS | {"attn_scale": 8.0}).attention_scale == 0.125


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_experts": 4}, "num_experts = 4: not handled"),
        ({"new_field": 1}, "new_field = 1: not handled"),
        ({"positional_embedding_type": "alibi"}, 'positional_embedding_type = "alibi": not handled'),
        ({"act_fn": "solu_ln"}, 'act_fn = "solu_ln": not handled'),
        ({"rotary_adjacent_pairs": True}, "rotary_adjacent_pairs = true"),
        ({"final_rms": True}, "final_rms = true"),
        ({"d_vocab_out": 3}, "d_vocab_out = 3"),
        ({"original_architecture": "Olmo2ForCausalLM"}, "original_architecture"),
        ({"original_architecture": "BertForMaskedLM", "attention_dir": "bidirectional"}, "model.activation = 'relu'"),
        ({"use_local_attn": True, "window_size": 3, "attn_types": ["near"]}, "attn_types"),
        ({"d_model": None}, "d_model = null: it is needed"),
        ({"n_layers": 10**9}, "n_layers = 1000000000: expected at most 10000"),
        ({"n_heads": 0}, "n_heads = 0: expected a whole number from 1"),
        ({"n_key_value_heads": 0}, "n_key_value_heads = 0: expected a whole number from 1"),
        ({"use_local_attn": True, "window_size": 3, "attn_types": [["local"]]}, "attn_types"),
        ({"original_architecture": ["BertForMaskedLM"]}, "original_architecture"),
        ({"output_logits_soft_cap": float("nan")}, "output_logits_soft_cap = NaN: expected a finite number"),
        ({"attn_scores_soft_cap": float("inf")}, "attn_scores_soft_cap = Infinity: expected a finite number"),
    ],
)
def test_configurations_that_are_not_handled_are_refused(change, message):
    with pytest.raises(InputError, match=f"x.json: .*{message}"):
        transformer_lens.config_from(SETTINGS | change, "x.json")


def faulty(name, value):
    def change(tensors):
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return change


@pytest.mark.parametrize(
    ("cfg", "name", "value", "message"),
    [
        (MLP, "blocks.1.attn.W_O", None, "no tensor 'blocks.1.attn.W_O', expected with shape .4, 4, 12."),
        (MLP, "ln_final.w", None, "no tensor 'ln_final.w', expected with shape .12."),
        (
            MLP,
            "blocks.2.attn.W_O",
            np.ones((4, 4, 12)),
            "'blocks.2.attn.W_O' of shape .4, 4, 12. is none of this model's",
        ),
        (MLP, "embed.W_E", np.ones((12, 12)), "'embed.W_E' has shape .12, 12., expected .11, 12."),
        (
            MLP,
            "blocks.1.attn.W_Q",
            np.ones((2, 12, 4)),
            "'blocks.1.attn.W_Q' has shape .2, 12, 4., expected .4, 12, 4.",
        ),
        (
            MLP,
            "embed.W_E",
            np.ones((11, 12), np.int8),
            "'embed.W_E' of shape .11, 12. is int8, expected a floating-point",
        ),
        (
            MLP,
            "blocks.1.mlp.b_in",
            np.ones(16, np.float16),
            "is float16, but 'blocks.0.mlp.b_in' is float32: .* give a dtype",
        ),
        (FAMILY["grouped, tied"], "unembed.W_U", np.ones((12, 11)), "'unembed.W_U' is not 'embed.W_E' transposed"),
        (
            FAMILY["grouped, tied"],
            "blocks.1.attn._b_V",
            np.eye(2, 4),
            "'blocks.1.attn._b_V' is not zero, and model.biases",
        ),
        (
            FAMILY["no positions"],
            "pos_embed.W_pos",
            np.ones((9, 12)),
            "'pos_embed.W_pos' is not zero, and model.positions",
        ),
        (
            dataclasses.replace(GATED, biases="none"),
            "blocks.0.mlp.b_in",
            np.ones(16),
            "'blocks.0.mlp.b_in' is not zero",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_one_clear_error(cfg, name, value, message, tmp_path):
    written(tmp_path, cfg, faulty(name, value))
    with pytest.raises(InputError, match=message) as caught:
        transformer_lens.load(tmp_path, cfg)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_a_number_is_read_as_it_is(tmp_path):
    def change(tensors):
        tensors["embed.W_E"][3] = np.nan
        tensors["unembed.W_U"][:, 3] = np.nan

    cfg = FAMILY["grouped, tied"]
    written(tmp_path, cfg, change)
    assert np.isnan(transformer_lens.load(tmp_path, cfg)["embed"]["W_E"][3]).all()


def test_parameters_that_do_not_fit_are_refused(tmp_path):
    params, _ = random_model(MLP)
    with pytest.raises(InputError, match="'embed/W_E' has shape .11, 12., expected .12, 12."):
        transformer_lens.save(tmp_path, params, dataclasses.replace(MLP, d_vocab=12))
    with pytest.raises(InputError, match="no parameter 'blocks/mlp/W_gate', expected with shape .2, 12, 16."):
        transformer_lens.save(tmp_path, params, dataclasses.replace(MLP, gated=True, biases="none"))
    with pytest.raises(InputError, match="'embed/W_pos' is none of this configuration's"):
        transformer_lens.save(tmp_path, params, dataclasses.replace(MLP, positions="rotary"))


def test_biases_that_a_gated_mlp_there_lacks_have_to_be_zero(tmp_path):
    params, _ = random_model(GATED)
    with pytest.raises(InputError, match="'blocks/mlp/b_(in|gate)' is not zero"):
        transformer_lens.save(tmp_path, params, GATED)
    mlp = params["blocks"]["mlp"]
    mlp |= {name: jnp.zeros_like(mlp[name]) for name in ("b_in", "b_gate")}
    transformer_lens.save(tmp_path, params, GATED)
    equal(transformer_lens.load(tmp_path, GATED), params)


def test_hooks_are_the_aliases_of_the_table():
    decoder = transformer_lens.hooks(FAMILY["mlp"])
    assert decoder["blocks.resid_mid"] == "blocks.{l}.hook_resid_mid" and decoder["embed"] == "hook_embed"
    aliases = {site.name: site.alias for site in SITES if site.alias}
    assert all(decoder[name] == aliases[name] for name in decoder.keys() & aliases.keys())
    encoder = transformer_lens.hooks(FAMILY["encoder"])
    assert (
        "blocks.resid_mid" not in encoder and encoder["blocks.resid_post"] == "blocks.{l}.hook_normalized_resid_post"
    )
