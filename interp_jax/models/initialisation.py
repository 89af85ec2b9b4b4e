"""First weights of the transformer family.

Normal with variance 1/fan_in; W_O and W_out are smaller by sqrt(2 L), as each of them adds to the stream (GPT-2). Biases are
zero and norms change nothing. The tree has the same structure as that of published weights of the same configuration.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.models.config import TransformerConfig
from interp_jax.models.norms import Norm, init_norm

Params = dict[str, Any]
Draw = Callable[[tuple[int, ...], float], Array]


def init(key: Key[Array, ""], cfg: TransformerConfig) -> Params:
    """Parameters in float32, those of layers stacked on a leading L axis."""
    draw, draw_later = _drawing(key, 9), _drawing(jax.random.fold_in(key, 1), 3)
    L, D, V = cfg.n_layers, cfg.d_model, cfg.d_vocab
    blocks: Params = {"attn": _attention(draw, cfg)}
    if cfg.d_mlp:
        blocks["mlp"] = _mlp(draw, draw_later, cfg)
    for name in _norm_names(cfg):
        blocks[name] = init_norm(cfg.norm_rule, (L, D))
    params: Params = {"embed": _embed(draw, draw_later, cfg), "blocks": blocks, "unembed": {}}
    if cfg.head == "none":
        return params
    params["ln_final"] = init_norm(cfg.norm_rule, (D,))
    if not cfg.tied:
        params["unembed"]["W_U"] = draw((D, V), D**-0.5)
    if cfg.head == "mlm":
        params["unembed"] |= {"W_head": draw_later((D, D), D**-0.5), "b_head": jnp.zeros(D)}
    if cfg.biases == "all" or cfg.head == "mlm":
        params["unembed"]["b_U"] = jnp.zeros(V)
    return params


def _drawing(key: Key[Array, ""], n: int) -> Draw:
    keys = iter(jax.random.split(key, n))
    return lambda shape, std: std * jax.random.normal(next(keys), shape)


def _attention(draw: Draw, cfg: TransformerConfig) -> Params:
    L, D, H, G, E = cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.n_groups, cfg.d_head
    read = D**-0.5
    attn: Params = {
        "W_Q": draw((L, H, D, E), read * cfg.query_key_gain),
        "W_K": draw((L, G, D, E), read * cfg.query_key_gain),
        "W_V": draw((L, G, D, E), read),
        "W_O": draw((L, H, E, D), (H * E * 2 * L) ** -0.5),
    }
    if cfg.biases != "none":
        attn |= {"b_Q": jnp.zeros((L, H, E)), "b_K": jnp.zeros((L, G, E)), "b_V": jnp.zeros((L, G, E))}
    if cfg.biases in ("all", "layers"):
        attn["b_O"] = jnp.zeros((L, D))
    if cfg.positions == "relative":
        attn["b_distance"] = jnp.zeros((L, H, cfg.n_context))
    if cfg.qk_norm:
        rule = Norm("rms", *cfg.norm_rule[1:])
        attn |= {"q_norm": init_norm(rule, (L, E)), "k_norm": init_norm(rule, (L, E))}
    return attn


def _mlp(draw: Draw, draw_later: Draw, cfg: TransformerConfig) -> Params:
    L, D, M = cfg.n_layers, cfg.d_model, cfg.d_mlp
    weights = {"W_in": draw((L, D, M), D**-0.5), "W_out": draw((L, M, D), (M * 2 * L) ** -0.5)}
    biased = cfg.biases in ("all", "layers")
    if cfg.gated:
        weights["W_gate"] = draw_later((L, D, M), D**-0.5)
        weights |= {"b_gate": jnp.zeros((L, M))} if biased else {}
    return weights | ({"b_in": jnp.zeros((L, M)), "b_out": jnp.zeros((L, D))} if biased else {})


def _norm_names(cfg: TransformerConfig) -> list[str]:
    """A layer's norms."""
    names = ["ln1", *(["ln2"] if cfg.d_mlp else [])]
    return names + [f"{name}_post" for name in names] if cfg.placement == "sandwich" else names


def _embed(draw: Draw, draw_later: Draw, cfg: TransformerConfig) -> Params:
    D = cfg.d_model
    embed: Params = {"W_E": draw((cfg.d_vocab, D), D**-0.5)}
    if cfg.positions == "learned":
        embed["W_pos"] = draw((cfg.n_context, D), D**-0.5)
    if cfg.positions == "shortformer":
        embed["W_pos"] = sinusoids(cfg.n_context, D)
    if cfg.d_types:
        embed["W_type"] = draw_later((cfg.d_types, D), D**-0.5)
    if cfg.embed_norm:
        embed["ln"] = init_norm(cfg.norm_rule, (D,))
    return embed


def sinusoids(n_positions: int, d_model: int) -> Float[Array, "P D"]:
    """Sin and cos of position / 10000^(2i/D) (Vaswani et al. 2017): neighbours are told apart by a rotation."""
    half = -(-d_model // 2)
    angle = jnp.arange(n_positions)[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)[:, :d_model]
