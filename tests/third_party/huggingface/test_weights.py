"""Weights: read into the tree of `init`, written back bit for bit, and errors that name file, tensor and shape."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.models import transformer
from third_party import huggingface
from third_party.huggingface.parity import golden
from third_party.huggingface.parity.cases import CASES, PLAIN
from third_party.safetensors_io import open_checkpoint
from third_party.safetensors_writer_io import write_checkpoint


@pytest.fixture
def published(tmp_path):
    """Writes a case's checkpoint, with changes to its tensors, and returns the directory."""

    def write(name, change=lambda tensors: tensors):
        fields = golden.read(name).config
        golden.write_checkpoint_by_seed(tmp_path / "whole", fields)
        with open_checkpoint(tmp_path / "whole") as checkpoint:
            tensors = {tensor: np.array(checkpoint.read(tensor)) for tensor in checkpoint.names()}
        write_checkpoint(tmp_path / "model", change(tensors), fields)
        return tmp_path / "model"

    return write


def trees_equal(one, other):
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@pytest.mark.parametrize("name", CASES)
def test_the_tree_is_that_of_init(name, published):
    params, cfg = huggingface.load(published(name))
    expected = jax.eval_shape(lambda key: transformer.init(key, cfg), jax.random.key(0))
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, expected)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("name", CASES)
def test_the_round_trip_is_exact(name, dtype, published, tmp_path):
    directory = published(name, lambda tensors: {key: value.astype(dtype) for key, value in tensors.items()})
    params, cfg = huggingface.load(directory)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(dtype)}
    huggingface.save(tmp_path / "again", params, cfg, golden.read(name).config)
    assert (tmp_path / "again" / "config.json").read_bytes() == (directory / "config.json").read_bytes()
    with open_checkpoint(directory) as first, open_checkpoint(tmp_path / "again") as second:
        assert first.names() == second.names()
        for tensor in first.names():
            assert first.read(tensor).tobytes() == second.read(tensor).tobytes(), tensor


def test_dtype_and_sharding(published):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = jax.NamedSharding(mesh, jax.P())
    params, _ = huggingface.load(published("llama"), dtype=jnp.bfloat16, sharding=whole)
    assert all(leaf.sharding == whole and leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params))

    def place(path, shape):
        return jax.NamedSharding(mesh, jax.P(None, "x") if path == "blocks/attn/W_Q" else jax.P())

    split, _ = huggingface.load(published("llama"), sharding=place)
    assert split["blocks"]["attn"]["W_Q"].addressable_shards[0].data.shape == (3, 2, 24, 8)
    assert trees_equal(split, huggingface.load(published("llama"))[0])


# --- names that publishers use


def without_prefix(prefix):
    return lambda tensors: {name.removeprefix(prefix): value for name, value in tensors.items()}


@pytest.mark.parametrize("name, prefix", [("gpt2", "transformer."), ("bert", "bert."), ("llama", "model.")])
def test_a_prefix_may_be_missing(name, prefix, published):
    whole = huggingface.load(published(name))[0]
    assert trees_equal(huggingface.load(published(name, without_prefix(prefix)))[0], whole)


def test_a_prefix_may_be_there_where_it_is_not_expected(published):
    whole = huggingface.load(published("bert, encoder"))[0]
    prefixed = published("bert, encoder", lambda tensors: {f"bert.{name}": value for name, value in tensors.items()})
    assert trees_equal(huggingface.load(prefixed)[0], whole)


def test_old_names_of_norms(published):
    def old(tensors):
        names = {name: name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta") for name in tensors}
        return {names[name]: value for name, value in tensors.items()}

    assert trees_equal(huggingface.load(published("bert", old))[0], huggingface.load(published("bert"))[0])


EXTRA = [
    ("gpt2", "transformer.h.0.attn.bias"),
    ("gpt2", "h.2.attn.masked_bias"),
    ("gpt_neox", "gpt_neox.layers.1.attention.rotary_emb.inv_freq"),
    ("gpt_neox", "gpt_neox.layers.1.attention.masked_bias"),
    ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
    ("bert", "bert.embeddings.position_ids"),
    ("bert", "cls.seq_relationship.weight"),
    ("bert", "bert.pooler.dense.weight"),
    ("bert, encoder", "pooler.dense.bias"),
]


@pytest.mark.parametrize("name, tensor", EXTRA)
def test_known_buffers_and_unused_heads_are_left_out(name, tensor, published):
    extended = published(name, lambda tensors: tensors | {tensor: np.ones(3, np.float32)})
    huggingface.load(extended)


def test_a_tied_tensor_may_be_published_twice_if_it_is_the_same(published):
    def twice(factor):
        def change(tensors):
            return tensors | {"lm_head.weight": tensors["transformer.wte.weight"] * np.float32(factor)}

        return change

    assert trees_equal(huggingface.load(published("gpt2", twice(1)))[0], huggingface.load(published("gpt2"))[0])
    with pytest.raises(InputError, match="'lm_head.weight' differs from 'transformer.wte.weight'"):
        huggingface.load(published("gpt2", twice(2)))


def test_what_is_not_a_number_is_read_as_it_is(published):
    def change(tensors):
        broken = tensors["transformer.wte.weight"] * np.float32(np.nan)
        return tensors | {"transformer.wte.weight": broken, "lm_head.weight": broken}

    params, _ = huggingface.load(published("gpt2", change))
    assert np.isnan(params["embed"]["W_E"]).all()


# --- bad input


def test_a_tensor_by_two_names_is_refused(published):
    directory = published("gpt2", lambda tensors: tensors | {"wte.weight": tensors["transformer.wte.weight"]})
    with pytest.raises(
        InputError, match="tensors 'wte.weight' and 'transformer.wte.weight' are the same by two names"
    ):
        huggingface.load(directory)


def test_a_missing_tensor_is_named_with_its_shape(published):
    name = "model.layers.1.self_attn.k_proj.weight"
    directory = published("llama", lambda tensors: {key: tensors[key] for key in tensors if key != name})
    with pytest.raises(InputError, match=rf"{directory}.*no tensor '{name}', expected with shape \[16, 24\]"):
        huggingface.load(directory)


def test_an_unknown_tensor_is_named(published):
    directory = published("llama", lambda tensors: tensors | {"model.layers.0.mlp.router.weight": np.ones((4, 24))})
    pattern = r"model.safetensors: tensor 'model.layers.0.mlp.router.weight' of shape \[4, 24\] is unknown in Llama"
    with pytest.raises(InputError, match=pattern):
        huggingface.load(directory)


@pytest.mark.parametrize("name", PLAIN)
def test_no_row_of_a_table_can_be_forgotten(name, published, monkeypatch):
    """Its tensor is then unknown; or, where it has the name of another task's head, its parameter is missing."""
    directory = published(name)
    params, cfg = huggingface.load(directory)
    adapter = huggingface.adapter_for(golden.read(name).config)
    table = adapter.table(cfg)
    for row in table:
        kept = [other for other in table if other is not row]
        with monkeypatch.context() as patch:
            patch.setitem(
                huggingface.ADAPTERS, adapter.architecture, adapter._replace(table=lambda cfg, kept=kept: kept)
            )
            if row.paths == ("unembed/b_U",):
                assert "b_U" in params["unembed"] and "b_U" not in huggingface.load(directory)[0]["unembed"]
            else:
                with pytest.raises(InputError, match=f"tensor '{row.name.format(l=0)}' of shape .* is unknown in"):
                    huggingface.load(directory)


def test_a_layer_too_many_is_unknown(published):
    directory = published("llama")
    file = directory / "config.json"
    file.write_text(file.read_text().replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
    with pytest.raises(InputError, match="'model.layers.2.input_layernorm.weight' of shape .* is unknown"):
        huggingface.load(directory)


def test_a_wrong_shape_is_named(published):
    directory = published("llama", lambda tensors: tensors | {"model.norm.weight": np.ones(25, np.float32)})
    pattern = r"model.safetensors: tensor 'model.norm.weight' has shape \[25\], expected \[24\]"
    with pytest.raises(InputError, match=pattern):
        huggingface.load(directory)


@pytest.mark.parametrize("dtype", [np.int8, np.bool_, np.complex64])
def test_weights_that_are_no_real_numbers_are_named(dtype, published):
    """Packed or quantised weights have the names and shapes of others, and would be read as nonsense."""
    name = "model.layers.1.mlp.up_proj.weight"
    directory = published("llama", lambda tensors: tensors | {name: tensors[name].astype(dtype)})
    pattern = rf"model.safetensors: tensor '{name}' of shape \[20, 24\] is {np.dtype(dtype)}, expected a floating-point dtype"
    for wanted in (None, jnp.float32):
        with pytest.raises(InputError, match=pattern):
            huggingface.load(directory, dtype=wanted)
    with pytest.raises(InputError, match="dtype = int8: parameters are of a floating-point dtype"):
        huggingface.load(published("llama"), dtype=jnp.int8)


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_of_several_dtypes_need_one_that_is_asked_for(layer, published):
    name = f"model.layers.{layer}.mlp.up_proj.weight"
    directory = published("llama", lambda tensors: tensors | {name: tensors[name].astype(np.float16)})
    with pytest.raises(
        InputError, match="layers.1.mlp.up_proj.weight' of .*, but .*layers are one array, so give a dtype"
    ):
        huggingface.load(directory)
    assert huggingface.load(directory, dtype=jnp.float32)[0]["blocks"]["mlp"]["W_in"].dtype == jnp.float32


def test_a_second_copy_of_another_shape_is_named(published):
    directory = published("gpt2", lambda tensors: tensors | {"lm_head.weight": np.ones((3, 24), np.float32)})
    with pytest.raises(InputError, match=r"tensor 'lm_head.weight' has shape \[3, 24\], expected \[41, 24\]"):
        huggingface.load(directory)


def test_an_error_does_not_list_a_whole_model(published):
    directory = published("llama", lambda tensors: tensors | {"zzz": np.ones(1, np.float32)})
    with pytest.raises(InputError, match=r"'zzz' .* … \(30 in all\)$"):
        huggingface.load(directory)


def test_an_unhandled_field_names_the_file(published):
    directory = published("gpt2")
    file = directory / "config.json"
    file.write_text(file.read_text().replace('"scale_attn_by_inverse_layer_idx": false', '"n_wte": 3'))
    with pytest.raises(InputError, match=f"^{file}: n_wte = 3: not handled$"):
        huggingface.load(directory)


def test_saving_checks_configuration_and_parameters(published, tmp_path):
    params, cfg = huggingface.load(published("llama"))
    config = golden.read("llama").config
    with pytest.raises(InputError, match="norm_eps = 0.5 against 1e-05"):
        huggingface.save(tmp_path / "new", params, cfg, config | {"rms_norm_eps": 0.5})
    missing = params | {"ln_final": {}}
    with pytest.raises(InputError, match="no parameter 'ln_final/w' for tensor 'model.norm.weight'"):
        huggingface.save(tmp_path / "new", missing, cfg, config)
    wrong = params | {"ln_final": {"w": jnp.ones(3)}}
    with pytest.raises(InputError, match=r"parameter 'ln_final/w' has shape \[3\].*expected \[24\]"):
        huggingface.save(tmp_path / "new", wrong, cfg, config)
