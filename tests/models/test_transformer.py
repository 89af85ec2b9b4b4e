"""The family against a NumPy float64 implementation written with loops, and its own identities."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

BASE = TransformerConfig(n_layers=2, d_model=12, n_heads=4, d_head=4, d_vocab=11, n_context=9)
FAMILY = {
    "attention only": BASE,
    "mlp": dataclasses.replace(BASE, d_mlp=16, positions="learned"),
    "relu, rms, rotary": dataclasses.replace(BASE, d_mlp=16, activation="relu", norm="rms", positions="rotary"),
    "grouped, tied": dataclasses.replace(BASE, n_kv_heads=2, tied=True, biases=False),
    "no norm, relative": dataclasses.replace(BASE, norm="none", positions="relative"),
    "upper layers see no positions": dataclasses.replace(BASE, positions="rotary", position_layers=1),
    "no positions": dataclasses.replace(BASE, positions="none"),
}


apply = jax.jit(transformer.apply, static_argnums=2)


def random_model(cfg):
    """Parameters that are all different from 0 and 1, so that none can be dropped unnoticed."""
    params = transformer.init(jax.random.key(0), cfg)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    tokens = jax.random.randint(jax.random.key(2), (3, 7), 0, cfg.d_vocab)
    return jax.tree.unflatten(tree, leaves), tokens


def norm(kind, p, x, eps):
    if kind == "none":
        return x
    if kind == "layer":
        x = x - x.mean()
    y = x / np.sqrt((x**2).mean() + eps) * p["w"]
    return y + p["b"] if kind == "layer" else y


def turned(v, position, base):
    half, out = len(v) // 2, v.copy()
    for i in range(half):
        c, s = np.cos(position * base ** (-i / half)), np.sin(position * base ** (-i / half))
        out[i], out[i + half] = v[i] * c - v[i + half] * s, v[i + half] * c + v[i] * s
    return out


def oracle(params, tokens, cfg):
    """Logits of one sequence, one row and one head at a time."""
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    act = {
        "relu": lambda x: np.maximum(x, 0),
        "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    }[cfg.activation]
    n = len(tokens)
    x = w["embed"]["W_E"][tokens]
    if cfg.positions == "learned":
        x = x + w["embed"]["W_pos"][:n]
    for layer in range(cfg.n_layers):
        b = jax.tree.map(lambda leaf: leaf[layer], w["blocks"])  # noqa: B023
        a = b["attn"]
        y = np.stack([norm(cfg.norm, b["ln1"], row, cfg.norm_eps) for row in x])
        sees = layer < (cfg.position_layers or cfg.n_layers)
        y_qk = y + w["embed"]["W_pos"][:n] if cfg.positions == "shortformer" and sees else y
        new = x.copy()
        for h in range(cfg.n_heads):
            g = h // (cfg.n_heads // cfg.n_groups)
            q, k, v = y_qk @ a["W_Q"][h], y_qk @ a["W_K"][g], y @ a["W_V"][g]
            if cfg.biases:
                q, k, v = q + a["b_Q"][h], k + a["b_K"][g], v + a["b_V"][g]
            for i in range(n):
                scores = np.zeros(i + 1)
                for j in range(i + 1):
                    qi, kj = q[i], k[j]
                    if cfg.positions == "rotary" and sees:
                        qi, kj = turned(qi, i, cfg.rotary_base), turned(kj, j, cfg.rotary_base)
                    scores[j] = qi @ kj / np.sqrt(cfg.d_head)
                    if cfg.positions == "relative" and sees:
                        scores[j] += a["b_distance"][h, i - j]
                pattern = np.exp(scores) / np.exp(scores).sum()
                new[i] += pattern @ v[: i + 1] @ a["W_O"][h]
        x = new + (a["b_O"] if cfg.biases else 0)
        if cfg.d_mlp:
            m = b["mlp"]
            y = np.stack([norm(cfg.norm, b["ln2"], row, cfg.norm_eps) for row in x])
            hidden = act(y @ m["W_in"] + (m["b_in"] if cfg.biases else 0))
            x = x + hidden @ m["W_out"] + (m["b_out"] if cfg.biases else 0)
    y = np.stack([norm(cfg.norm, w["ln_final"], row, cfg.norm_eps) for row in x])
    logits = y @ (w["embed"]["W_E"].T if cfg.tied else w["unembed"]["W_U"])
    return logits + w["unembed"]["b_U"] if cfg.biases else logits


@pytest.mark.parametrize("name", FAMILY)
def test_logits_equal_the_oracle(name):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    expected = np.stack([oracle(params, np.asarray(row), cfg) for row in tokens])
    got = apply(params, tokens, cfg)
    np.testing.assert_allclose(got, expected, atol=3e-5 * np.abs(expected).max())


def test_float64_agrees_with_the_oracle_to_float64():
    with jax.enable_x64(True):
        for cfg in (FAMILY["mlp"], FAMILY["relu, rms, rotary"]):
            params, tokens = random_model(cfg)
            params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
            got = apply(params, tokens, cfg)
            assert got.dtype == jnp.float64
            np.testing.assert_allclose(got[0], oracle(params, np.asarray(tokens[0]), cfg), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FAMILY)
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
    middle, _ = transformer.blocks(first, x, dataclasses.replace(cfg, n_layers=1))
    end, _ = transformer.blocks(params, middle, cfg, first_layer=1)
    whole, _ = transformer.blocks(params, x, cfg)
    np.testing.assert_allclose(end, whole, atol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
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
    for name in ("attention only", "mlp", "no norm, relative"):
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
    np.testing.assert_array_equal(transformer.sees_positions(two), [1, 0])
