"""The family against a NumPy float64 implementation written with loops, and its own identities."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.attention import Prefix, Rows
from interp_jax.models.config import layer_data
from tests.models.transformer_oracle import BASE, CAUSAL, FAMILY, oracle, random_model

apply = jax.jit(transformer.apply, static_argnums=2)


@pytest.mark.parametrize("name", FAMILY)
def test_logits_equal_the_oracle(name):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    expected = np.stack([oracle(params, np.asarray(row), cfg) for row in tokens])
    got = apply(params, tokens, cfg)
    np.testing.assert_allclose(got, expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILY)
def test_float64_agrees_with_the_oracle_to_float64(name):
    cfg = FAMILY[name]
    with jax.enable_x64(True):
        params, tokens = random_model(cfg)
        params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
        got = apply(params, tokens, cfg)
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got[0], oracle(params, np.asarray(tokens[0]), cfg), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", FAMILY)
def test_padding_changes_no_real_position(name, side):
    """On either side, in whatever token, for every member of the family."""
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    alone = apply(params, tokens, cfg)
    at, real = (0, slice(2, None)) if side == "left" else (7, slice(0, 7))
    padded = np.insert(np.asarray(tokens), [at, at], 3, axis=1)
    positions = np.insert(np.tile(np.arange(7), (3, 1)), [at, at], -1, axis=1)
    got = apply(params, padded, cfg, positions)[:, real]
    np.testing.assert_allclose(got, alone, atol=1e-5 * float(jnp.abs(alone).max()))
    without = apply(params, padded, cfg)[:, real]
    assert jnp.abs(without - alone).max() > 1e-2 or (side == "right" and cfg.causal)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["mlp", "encoder", "sandwich, capped, local layers"])
def test_padding_changes_no_real_position_in_half_precision(name, dtype):
    """A float16 ends at 65,504: a mask beyond it would be infinite, and rows of padding NaN."""
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    alone = apply(params, tokens, cfg).astype(jnp.float32)
    padded = np.insert(np.asarray(tokens), [0, 0], 3, axis=1)
    positions = np.insert(np.tile(np.arange(7), (3, 1)), [0, 0], -1, axis=1)
    got = apply(params, padded, cfg, positions)[:, 2:].astype(jnp.float32)
    bound = 8 * float(jnp.finfo(dtype).eps) * float(jnp.abs(alone).max())
    np.testing.assert_allclose(got, alone, atol=bound)


@pytest.mark.parametrize("name", CAUSAL)
def test_no_position_sees_a_later_token(name):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    changed = tokens.at[:, 4].set((tokens[:, 4] + 1) % cfg.d_vocab)
    before, after = (apply(params, t, cfg) for t in (tokens, changed))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max(-1).min() > 0


@pytest.mark.parametrize("name", FAMILY)
def test_layers_compose(name):
    """All layers = the first, by a config of one layer, then the rest, by `first_layer`."""
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    positions = jnp.arange(7)[None]
    x = transformer.embed(params, tokens, cfg, positions)
    first = dict(params, blocks=jax.tree.map(lambda w: w[:1], params["blocks"]))
    only = dataclasses.replace(cfg, n_layers=1, local_layers=cfg.local_layers[:1])
    middle, _ = transformer.blocks(first, x, only)
    end, _ = transformer.blocks(params, middle, cfg, first_layer=1)
    whole, _ = transformer.blocks(params, x, cfg)
    np.testing.assert_allclose(end, whole, atol=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_cache_in_pieces_equals_one_pass(name):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    cache = transformer.init_cache(cfg, 3, cfg.n_context)
    rows = []
    for piece in (slice(0, 3), slice(3, 4), slice(4, 7)):
        positions = jnp.arange(7)[None, piece]
        x = transformer.embed(params, tokens[:, piece], cfg, positions)
        x, cache = transformer.blocks(params, x, cfg, cache=cache, positions=positions)
        rows.append(transformer.unembed(params, x, cfg))
    np.testing.assert_allclose(jnp.concatenate(rows, 1), apply(params, tokens, cfg), atol=1e-4)


def test_results_of_heads_sum_to_the_output_and_can_be_edited():
    cfg = FAMILY["grouped, tied"]
    params, tokens = random_model(cfg)
    model = lambda params, tokens: transformer.apply(params, tokens, cfg)
    logits, acts = taps.record(model, ("blocks.attn.result", "blocks.attn.out"))(params, tokens)
    np.testing.assert_allclose(acts["blocks.attn.result"].sum(3), acts["blocks.attn.out"], atol=1e-5)
    np.testing.assert_allclose(logits, model(params, tokens), atol=1e-4)
    silent = taps.Edit("scale", jnp.arange(4)[:, None] != 1, layer=0)
    without = dict(params, blocks=jax.tree.map(jnp.copy, params["blocks"]))
    without["blocks"]["attn"]["W_O"] = params["blocks"]["attn"]["W_O"].at[0, 1].set(0.0)
    edited = taps.edit(model)({"blocks.attn.result": silent}, params, tokens)
    np.testing.assert_allclose(edited, model(without, tokens), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_heads": 0}, "model.n_heads"),
        ({"n_kv_heads": 3}, "must divide"),
        ({"positions": "learnt"}, "did you mean 'learned'"),
        ({"activation": "relo"}, "did you mean 'relu'"),
        ({"positions": "rotary", "d_head": 3}, "even"),
        ({"d_mlp": -1}, "model.d_mlp"),
    ],
)
def test_impossible_values_are_named(change, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(BASE, **change).check()


def test_more_positions_than_the_context_are_refused():
    for name in ("attention only", "mlp", "no norm, relative", "relu, rms, rotary"):
        params, _ = random_model(FAMILY[name])
        with pytest.raises(InputError, match="10 positions.*n_context = 9"):
            transformer.apply(params, jnp.zeros((1, 10), int), FAMILY[name])


def test_blocks_of_queries_equal_all_at_once():
    """77 rows are three blocks, of which the last is short; asking for a pattern makes the model attend all at once."""
    cfg = dataclasses.replace(BASE, n_context=77, positions="relative", n_kv_heads=2)
    params, _ = random_model(cfg)
    tokens = jax.random.randint(jax.random.key(2), (2, 77), 0, cfg.d_vocab)
    model = lambda params, tokens: transformer.apply(params, tokens, cfg)
    whole, acts = jax.jit(taps.record(model, ["blocks.attn.pattern"]))(params, tokens)
    assert acts["blocks.attn.pattern"].shape == (2, 2, 4, 77, 77)
    np.testing.assert_allclose(apply(params, tokens, cfg), whole, atol=1e-5 * float(jnp.abs(whole).max()))


def test_layers_above_position_layers_cannot_tell_positions():
    """With no layer below, permuting earlier tokens leaves the last row alone; a layer that sees positions notices."""
    cfg = dataclasses.replace(BASE, n_layers=1, positions="relative")
    params, tokens = random_model(cfg)
    blind = jax.tree.map(lambda x: x, params)
    blind["blocks"]["attn"]["b_distance"] = jnp.zeros_like(params["blocks"]["attn"]["b_distance"])
    shuffled = tokens[:, jnp.array([3, 0, 5, 1, 4, 2, 6])]
    last = lambda params, tokens: apply(params, tokens, cfg)[:, -1]
    np.testing.assert_allclose(last(blind, tokens), last(blind, shuffled), atol=1e-4)
    assert jnp.abs(last(params, tokens) - last(params, shuffled)).max() > 1e-2
    two = dataclasses.replace(BASE, position_layers=1, positions="relative")
    np.testing.assert_array_equal(layer_data(two, jnp.float32).sees_positions, [1, 0])


def test_ids_beyond_a_table_raise_or_become_nan():
    """JAX clamps an index beyond an array's end; here nothing is clamped."""
    cfg = FAMILY["mlp"]
    params, tokens = random_model(cfg)
    for wrong in (11, -1):
        with pytest.raises(InputError, match=f"token {wrong} in row 1, column 4: ids go from 0 to 10"):
            transformer.apply(params, tokens.at[1, 4].set(wrong), cfg)
        logits = apply(params, tokens.at[1, 4].set(wrong), cfg)
        assert jnp.isnan(logits[1, 4:]).all() and jnp.isfinite(logits[jnp.array([0, 2])]).all()
    with pytest.raises(InputError, match="13 positions"):
        transformer.apply(params, tokens, cfg, jnp.arange(6, 13)[None])
    late = apply(params, tokens, cfg, jnp.arange(6, 13)[None])
    assert jnp.isnan(late[:, 3:]).all()


def test_types_beyond_the_table_or_without_one_are_refused():
    cfg = FAMILY["encoder"]
    params, tokens = random_model(cfg)
    with pytest.raises(InputError, match=f"type 5 in row 0, column 1: types go from 0 to {cfg.d_types - 1}"):
        transformer.stream(params, tokens, cfg, types=np.array([[0, 5, 0, 0, 0, 0, 0]]))
    plain = FAMILY["mlp"]
    params, tokens = random_model(plain)
    with pytest.raises(InputError, match="model.d_types = 0"):
        transformer.apply(params, tokens, plain, types=np.zeros((1, 7), int))


def test_models_without_logits_or_caches_say_so():
    cfg = dataclasses.replace(FAMILY["encoder"], head="none")
    params, tokens = random_model(cfg)
    assert transformer.stream(params, tokens, cfg).shape == (3, 7, 12)
    with pytest.raises(InputError, match="no logits"):
        transformer.apply(params, tokens, cfg)
    with pytest.raises(InputError, match="no cache"):
        transformer.blocks(params, jnp.zeros((3, 7, 12)), cfg, cache=transformer.init_cache(cfg, 3, 9))


def test_token_types_are_added():
    cfg = FAMILY["encoder"]
    params, tokens = random_model(cfg)
    model = lambda types: transformer.apply(params, tokens, cfg, types=types)
    np.testing.assert_array_equal(model(jnp.zeros_like(tokens)), model(None))
    swapped = dict(params, embed=dict(params["embed"], W_type=params["embed"]["W_type"][::-1]))
    np.testing.assert_allclose(model(jnp.ones_like(tokens)), transformer.apply(swapped, tokens, cfg), atol=1e-5)


def test_rotary_positions_keep_their_precision_in_bfloat16():
    """Only distances count, far along the sequence too; a position rounded to bfloat16 would merge 900 with 903."""
    cfg = dataclasses.replace(FAMILY["relu, rms, rotary"], n_context=1024)
    params, tokens = random_model(cfg)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    near, far = (apply(params, tokens, cfg, first + jnp.arange(7)[None]) for first in (0, 900))
    assert jnp.abs(near - far).max() < 0.05 * jnp.abs(near).max()


@pytest.mark.parametrize("name", FAMILY)
def test_a_traced_first_layer_and_few_tokens_of_the_logits(name):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    x = transformer.embed(params, tokens, cfg)
    run = jax.jit(lambda x, first: transformer.blocks(params, x, cfg, first)[0])
    for first in range(cfg.n_layers + 1):
        np.testing.assert_allclose(run(x, first), transformer.blocks(params, x, cfg, first)[0], atol=1e-5)
    rows, few = run(x, 0), jnp.array([[[3, 0, 7]]])
    logits = transformer.unembed(params, rows, cfg)
    some = transformer.unembed(params, rows, cfg, jnp.broadcast_to(few, (*rows.shape[:2], 3)))
    np.testing.assert_allclose(some, logits[..., few[0, 0]], atol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_rows_that_are_read_of_the_last_layer(name):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    positions = jnp.array([[-1, -1, 0, 1, 2, 3, 4]])
    x = transformer.embed(params, tokens, cfg, positions)
    read = jnp.array([[6, 2], [3, 3], [4, 5]])
    last = cfg.n_layers - 1
    some, _ = transformer.blocks(params, x, cfg, last, positions=positions, read=read)
    whole, _ = transformer.blocks(params, x, cfg, last, positions=positions)
    np.testing.assert_allclose(some, whole[jnp.arange(3)[:, None], read], atol=1e-5)
    with pytest.raises(InputError, match=r"read is for one layer; layers 0 to 1"):
        transformer.blocks(params, x, cfg, read=read)


@pytest.mark.parametrize("name", CAUSAL)
def test_rows_continue_a_prefix_side_by_side(name):
    """Two continuations of the same cached rows, from columns 5 and 2, as one sequence of rows."""
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    keys = "blocks.attn.rot_k" if cfg.positions == "rotary" else "blocks.attn.k"
    keys = "blocks.attn.k_norm" if cfg.qk_norm and cfg.positions != "rotary" else keys
    model = taps.record(transformer.stream, ("blocks.resid_pre", keys, "blocks.attn.v"))
    end, acts = model(params, tokens, cfg)
    column = jnp.array([5, 6, 2, 3, 4, 5, 6])
    cell = jnp.array([0, 0, 1, 1, 1, 1, 1])
    seen = cell[:, None] == cell
    before = jnp.arange(7) < jnp.array([5, 2])[cell][:, None]
    rows = Rows(column[None], False, seen[None], jnp.arange(7)[None], before[None])
    changed = acts["blocks.resid_pre"][0][:, column].at[:, 2].add(1.0)
    got, _ = transformer.blocks(params, changed, cfg, 0, Prefix(acts[keys], acts["blocks.attn.v"]), rows)
    want, _ = transformer.blocks(params, acts["blocks.resid_pre"][0].at[:, 2].add(1.0), cfg)
    np.testing.assert_allclose(got[:, :2], end[:, 5:], atol=1e-4)
    np.testing.assert_allclose(got[:, 2:], want[:, 2:], atol=1e-4)
