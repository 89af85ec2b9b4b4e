"""GPT-NeoX (Black et al. 2022), among them Pythia (Biderman et al. 2023): attention and MLP side by side.

Positions turn part of a head. Queries, keys and values are fused head by head.
"""

from interp_jax.models.config import TransformerConfig
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import ACTIVATIONS, MOST_LAYERS, Fields
from third_party.huggingface.layouts import (
    Entry,
    entry,
    head_biases,
    interleaved,
    linear,
    reading_heads,
    same,
    writing_heads,
)
from third_party.huggingface.rotary import read_rotary


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `GPTNeoXForCausalLM` is."""
    d_head = fields.head_width("num_attention_heads", "hidden_size")
    fields.only("attention_bias", True)
    fields.ignore("is_decoder")
    rotary = read_rotary(
        fields,
        d_head,
        fields.integer("max_position_embeddings"),
        theta="rotary_emb_base",
        partial="rotary_pct",
        default_partial=0.25,
    )
    return TransformerConfig(
        n_layers=fields.integer("num_hidden_layers", most=MOST_LAYERS),
        d_model=fields.integer("hidden_size"),
        n_heads=fields.integer("num_attention_heads"),
        d_head=d_head,
        d_mlp=fields.integer("intermediate_size"),
        d_vocab=fields.integer("vocab_size"),
        activation=fields.choice("hidden_act", ACTIVATIONS, "gelu"),
        norm_eps=fields.number("layer_norm_eps", 1e-5),
        parallel=fields.flag("use_parallel_residual", True),
        tied=fields.flag("tie_word_embeddings", False),
        biases="layers",
        **rotary.settings(),
    )


def table(cfg: TransformerConfig) -> list[Entry]:
    """Its rows."""
    D, M, V, H, E = cfg.d_model, cfg.d_mlp, cfg.d_vocab, cfg.n_heads, cfg.d_head
    layer, attn, mlp = "gpt_neox.layers.{l}.", "blocks/attn/", "blocks/mlp/"
    qkv = f"{layer}attention.query_key_value"
    rows = [
        entry("gpt_neox.embed_in.weight", same(V, D), "embed/W_E"),
        entry(f"{qkv}.weight", interleaved(reading_heads(H, E, D), H), *(f"{attn}W_{x}" for x in "QKV")),
        entry(f"{qkv}.bias", interleaved(head_biases(H, E), H), *(f"{attn}b_{x}" for x in "QKV")),
        entry(f"{layer}attention.dense.weight", writing_heads(H, E, D), f"{attn}W_O"),
        entry(f"{layer}attention.dense.bias", same(D), f"{attn}b_O"),
        entry(f"{layer}mlp.dense_h_to_4h.weight", linear(D, M), f"{mlp}W_in"),
        entry(f"{layer}mlp.dense_h_to_4h.bias", same(M), f"{mlp}b_in"),
        entry(f"{layer}mlp.dense_4h_to_h.weight", linear(M, D), f"{mlp}W_out"),
        entry(f"{layer}mlp.dense_4h_to_h.bias", same(D), f"{mlp}b_out"),
    ]
    norms = {
        f"{layer}input_layernorm": "blocks/ln1",
        f"{layer}post_attention_layernorm": "blocks/ln2",
        "gpt_neox.final_layer_norm": "ln_final",
    }
    for theirs, ours in norms.items():
        rows += [entry(f"{theirs}.weight", same(D), f"{ours}/w"), entry(f"{theirs}.bias", same(D), f"{ours}/b")]
    return rows if cfg.tied else [*rows, entry("embed_out.weight", linear(D, V), "unembed/W_U")]


ADAPTER = Adapter(
    "GPTNeoXForCausalLM",
    configure,
    table,
    prefix="gpt_neox.",
    buffers=(r"attention\.(bias|masked_bias)$", r"rotary_emb\.inv_freq$"),
    ties={"embed_out.weight": "gpt_neox.embed_in.weight"},
)
