"""The family in NumPy float64, one row and one head at a time: what the tests of `models/` compare with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf

from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

BASE = TransformerConfig(n_layers=2, d_model=12, n_heads=4, d_head=4, d_vocab=11, n_context=9)
MLP = dataclasses.replace(BASE, d_mlp=16)
FAMILY = {
    "attention only": BASE,
    "mlp": dataclasses.replace(MLP, positions="learned"),
    "relu, rms, rotary": dataclasses.replace(MLP, activation="relu", norm="rms", positions="rotary"),
    "grouped, tied": dataclasses.replace(BASE, n_kv_heads=2, tied=True, biases="none"),
    "no norm, relative": dataclasses.replace(BASE, norm="none", positions="relative"),
    "upper layers see no positions": dataclasses.replace(BASE, positions="rotary", position_layers=1),
    "no positions": dataclasses.replace(BASE, positions="none"),
    "parallel, partial rotary": dataclasses.replace(
        MLP, parallel=True, positions="rotary", rotary_dims=2, activation="gelu_erf", biases="layers"
    ),
    "gated, windowed, scaled rotary": dataclasses.replace(
        MLP, gated=True, activation="silu", norm="rms", norm_cast_first=True, n_kv_heads=1, positions="rotary",
        rotary_factors=(0.5, 0.1), rotary_gain=1.2, window=3, biases="qkv", attention_scale=0.3,
    ),
    "sandwich, capped, local layers": dataclasses.replace(
        MLP, placement="sandwich", gated=True, norm="rms", norm_offset=1.0, qk_norm=True, n_kv_heads=2, biases="none",
        positions="rotary", window=3, local_layers=(True, False), local_rotary_base=100.0, attention_cap=2.0,
        logit_cap=1.5, embed_scale=3.0, tied=True,
    ),
    "encoder": dataclasses.replace(
        MLP, placement="post", causal=False, positions="learned", d_types=2, embed_norm=True, head="mlm", tied=True,
        activation="gelu_erf", norm_eps=1e-12, biases="layers",
    ),
}  # fmt: skip
CAUSAL = [name for name, cfg in FAMILY.items() if cfg.causal]
ACT = {
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_erf": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


def random_model(cfg):
    """Parameters that are all different from 0 and 1, so that none can be dropped unnoticed, and tokens.

    They are drawn by NumPy: JAX would compile a program for each configuration, which takes longer than what is tested.
    """
    shapes, rng = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg)), np.random.default_rng(0)

    def draw(path, leaf):
        return jnp.asarray(float(path[-1].key == "w") + 0.4 * rng.normal(size=leaf.shape), leaf.dtype)

    tokens = jnp.asarray(rng.integers(0, cfg.d_vocab, (3, 7)), jnp.int32)
    return jax.tree_util.tree_map_with_path(draw, shapes), tokens


def normalised(p, x, cfg, kind=None):
    kind = kind or cfg.norm
    if kind == "none":
        return x
    if kind == "layer":
        x = x - x.mean()
    y = x / np.sqrt((x**2).mean() + cfg.norm_eps) * (cfg.norm_offset + p["w"])
    return y + p["b"] if kind == "layer" else y


def capped(x, limit):
    return limit * np.tanh(x / limit) if limit else x


def turned(v, position, cfg, local):
    n, out = (cfg.rotary_dims or len(v)) // 2, v.copy()
    for i in range(n):
        base = cfg.local_rotary_base if local and cfg.local_rotary_base else cfg.rotary_base
        speed = base ** (-i / n) * (cfg.rotary_factors[i] if cfg.rotary_factors and base == cfg.rotary_base else 1)
        c, s = cfg.rotary_gain * np.cos(position * speed), cfg.rotary_gain * np.sin(position * speed)
        out[i], out[i + n] = v[i] * c - v[i + n] * s, v[i + n] * c + v[i] * s
    return out


def attention(a, y_qk, y, cfg, layer):
    """What the heads of a layer add, row by row."""
    n, out = len(y), np.zeros_like(y)
    sees = layer < (cfg.position_layers or cfg.n_layers)
    local = bool(cfg.window) and (not cfg.local_layers or cfg.local_layers[layer])
    for h in range(cfg.n_heads):
        g = h // (cfg.n_heads // cfg.n_groups)
        q, k, v = y_qk @ a["W_Q"][h], y_qk @ a["W_K"][g], y @ a["W_V"][g]
        if "b_Q" in a:
            q, k, v = q + a["b_Q"][h], k + a["b_K"][g], v + a["b_V"][g]
        if cfg.qk_norm:
            q = np.stack([normalised(a["q_norm"], row, cfg, "rms") for row in q])
            k = np.stack([normalised(a["k_norm"], row, cfg, "rms") for row in k])
        if cfg.positions == "rotary" and sees:
            q = np.stack([turned(row, i, cfg, local) for i, row in enumerate(q)])
            k = np.stack([turned(row, i, cfg, local) for i, row in enumerate(k)])
        elif cfg.positions == "rotary":
            turn = cfg.rotary_dims or cfg.d_head
            q, k = (np.concatenate([cfg.rotary_gain * z[:, :turn], z[:, turn:]], 1) for z in (q, k))
        for i in range(n):
            keys = [j for j in range(n) if (j <= i or not cfg.causal) and (not local or i - j < cfg.window)]
            scores = capped(np.array([q[i] @ k[j] for j in keys]) * (cfg.attention_scale or cfg.d_head**-0.5),
                            cfg.attention_cap)  # fmt: skip
            if cfg.positions == "relative" and sees:
                scores = scores + np.array([a["b_distance"][h, i - j] for j in keys])
            pattern = np.exp(scores) / np.exp(scores).sum()
            out[i] += pattern @ v[keys] @ a["W_O"][h]
    return out + a.get("b_O", 0)


def mlp(m, y, cfg):
    hidden = y @ m["W_in"] + m.get("b_in", 0)
    hidden = (
        ACT[cfg.activation](y @ m["W_gate"] + m.get("b_gate", 0)) * hidden
        if cfg.gated
        else ACT[cfg.activation](hidden)
    )
    return hidden @ m["W_out"] + m.get("b_out", 0)


def oracle(params, tokens, cfg):
    """Logits of one sequence."""
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    n = len(tokens)
    rows = lambda p, x: np.stack([normalised(p, row, cfg) for row in x])
    x = w["embed"]["W_E"][tokens] * cfg.embed_scale
    if cfg.positions == "learned":
        x = x + w["embed"]["W_pos"][:n]
    if cfg.d_types:
        x = x + w["embed"]["W_type"][0]
    if cfg.embed_norm:
        x = rows(w["embed"]["ln"], x)
    for layer in range(cfg.n_layers):
        b = jax.tree.map(lambda leaf: leaf[layer], w["blocks"])  # noqa: B023
        y = x if cfg.placement == "post" else rows(b["ln1"], x)
        shift = cfg.positions == "shortformer" and layer < (cfg.position_layers or cfg.n_layers)
        out = attention(b["attn"], y + w["embed"]["W_pos"][:n] if shift else y, y, cfg, layer)
        before, x = x, x + (rows(b["ln1_post"], out) if cfg.placement == "sandwich" else out)
        x = rows(b["ln1"], x) if cfg.placement == "post" else x
        if cfg.d_mlp:
            out = mlp(b["mlp"], x if cfg.placement == "post" else rows(b["ln2"], before if cfg.parallel else x), cfg)
            x = x + (rows(b["ln2_post"], out) if cfg.placement == "sandwich" else out)
            x = rows(b["ln2"], x) if cfg.placement == "post" else x
    if cfg.head == "mlm":
        x = ACT[cfg.activation](x @ w["unembed"]["W_head"] + w["unembed"]["b_head"])
    logits = rows(w["ln_final"], x) @ (w["embed"]["W_E"].T if cfg.tied else w["unembed"]["W_U"])
    return capped(logits + w["unembed"].get("b_U", 0), cfg.logit_cap)
