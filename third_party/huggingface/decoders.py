"""What the decoders with RMS norms and gated MLPs have in common: Llama and those that follow its names.

model.embed_tokens · model.layers.{l}.(input_layernorm, self_attn, post_attention_layernorm, mlp) · model.norm · lm_head
"""

from typing import Any

from interp_jax.models.config import TransformerConfig
from third_party.huggingface.fields import ACTIVATIONS, MOST_LAYERS, Fields
from third_party.huggingface.layouts import (
    Entry,
    Layout,
    entry,
    head_biases,
    linear,
    reading_heads,
    same,
    writing_heads,
)
from third_party.huggingface.rotary import read_rotary

PREFIX = "model."
BUFFERS = (r"rotary_emb\.inv_freq$",)
TIES = {"lm_head.weight": "model.embed_tokens.weight"}
LAYER = "model.layers.{l}."
NORMS = {"input_layernorm": "ln1", "post_attention_layernorm": "ln2"}
SANDWICH = {
    "input_layernorm": "ln1",
    "post_attention_layernorm": "ln1_post",
    "pre_feedforward_layernorm": "ln2",
    "post_feedforward_layernorm": "ln2_post",
}
LAYER_TYPES = {"full_attention": False, "sliding_attention": True}  # whether local


def read_shape(fields: Fields, d_head: int | None = None) -> dict[str, Any]:
    """Sizes, norm and MLP: keyword arguments of `TransformerConfig`, positions and windows apart.

    `d_head` is what a missing head_dim means; by default d_model / n_heads.
    """
    n_heads = fields.integer("num_attention_heads")
    if fields.get("head_dim") is not None or d_head is not None:
        d_head = fields.integer("head_dim", d_head)
    else:
        d_head = fields.head_width("num_attention_heads", "hidden_size")
    return {
        "n_layers": fields.integer("num_hidden_layers", most=MOST_LAYERS),
        "d_model": fields.integer("hidden_size"),
        "n_heads": n_heads,
        "n_kv_heads": fields.integer("num_key_value_heads", n_heads),
        "d_head": d_head,
        "d_mlp": fields.integer("intermediate_size"),
        "d_vocab": fields.integer("vocab_size"),
        "norm": "rms",
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "gated": True,
        "biases": "none",
    }


def read_llama(fields: Fields, d_head: int | None = None) -> dict[str, Any]:
    """Everything but windows and biases, as in Llama: its activation, norm, positions and ties."""
    shape = read_shape(fields, d_head)
    rotary = read_rotary(fields, shape["d_head"], fields.integer("max_position_embeddings"))
    return {
        **shape,
        **rotary.settings(),
        "activation": fields.choice("hidden_act", ACTIVATIONS, "silu"),
        "norm_cast_first": True,
        "tied": fields.flag("tie_word_embeddings", False),
    }


def read_windows(fields: Fields, n_layers: int, usual: list[bool]) -> dict[str, Any]:
    """Which layers are local and how far they see; `usual` where the file has no list of layers' types."""
    window, types = fields.get("sliding_window"), fields.get("layer_types")
    local = usual
    if types is not None:
        if not isinstance(types, list) or len(types) != n_layers or not set(map(str, types)) <= set(LAYER_TYPES):
            raise fields.refused("layer_types", f"not handled; expected {n_layers} of {', '.join(LAYER_TYPES)}")
        local = [LAYER_TYPES[kind] for kind in types]
    if not any(local):
        return {}
    if window is None:
        raise fields.refused("sliding_window", "there are layers with sliding attention")
    return {"window": fields.integer("sliding_window"), "local_layers": () if all(local) else tuple(local)}


def table(cfg: TransformerConfig, norms: dict[str, str] = NORMS) -> list[Entry]:
    """The rows of a model with a tensor for each map."""
    return [*ends(cfg), *layer_norms(cfg, norms), *attention(cfg), *mlp(cfg)]


def ends(cfg: TransformerConfig) -> list[Entry]:
    """Embedding, last norm, unembedding."""
    rows = [
        entry("model.embed_tokens.weight", same(cfg.d_vocab, cfg.d_model), "embed/W_E"),
        entry("model.norm.weight", same(cfg.d_model), "ln_final/w"),
    ]
    if not cfg.tied:
        rows.append(entry("lm_head.weight", linear(cfg.d_model, cfg.d_vocab), "unembed/W_U"))
    return rows


def layer_norms(cfg: TransformerConfig, norms: dict[str, str]) -> list[Entry]:
    """A layer's norms."""
    return [entry(f"{LAYER}{name}.weight", same(cfg.d_model), f"blocks/{ours}/w") for name, ours in norms.items()]


def reading_maps(cfg: TransformerConfig) -> dict[str, Layout]:
    """Weights of queries, keys and values."""
    counts = {"Q": cfg.n_heads, "K": cfg.n_groups, "V": cfg.n_groups}
    return {letter: reading_heads(n, cfg.d_head, cfg.d_model) for letter, n in counts.items()}


def attention(cfg: TransformerConfig) -> list[Entry]:
    """q_proj, k_proj, v_proj, o_proj, their biases, and norms of queries and keys."""
    at, ours = f"{LAYER}self_attn.", "blocks/attn/"
    rows = [entry(f"{at}{x.lower()}_proj.weight", layout, f"{ours}W_{x}") for x, layout in reading_maps(cfg).items()]
    rows.append(entry(f"{at}o_proj.weight", writing_heads(cfg.n_heads, cfg.d_head, cfg.d_model), f"{ours}W_O"))
    if cfg.biases != "none":
        for x, n in (("Q", cfg.n_heads), ("K", cfg.n_groups), ("V", cfg.n_groups)):
            rows.append(entry(f"{at}{x.lower()}_proj.bias", head_biases(n, cfg.d_head), f"{ours}b_{x}"))
    if cfg.biases == "layers":
        rows.append(entry(f"{at}o_proj.bias", same(cfg.d_model), f"{ours}b_O"))
    if cfg.qk_norm:
        rows += [entry(f"{at}{x}_norm.weight", same(cfg.d_head), f"{ours}{x}_norm/w") for x in "qk"]
    return rows


def mlp(cfg: TransformerConfig) -> list[Entry]:
    """gate_proj, up_proj, down_proj and their biases."""
    at, ours, D, M = f"{LAYER}mlp.", "blocks/mlp/", cfg.d_model, cfg.d_mlp
    rows = []
    for theirs, name, d_in, d_out in (("gate", "gate", D, M), ("up", "in", D, M), ("down", "out", M, D)):
        rows.append(entry(f"{at}{theirs}_proj.weight", linear(d_in, d_out), f"{ours}W_{name}"))
        if cfg.biases == "layers":
            rows.append(entry(f"{at}{theirs}_proj.bias", same(d_out), f"{ours}b_{name}"))
    return rows
