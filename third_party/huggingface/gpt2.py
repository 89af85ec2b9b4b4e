"""GPT-2 (Radford et al. 2019): learned positions, norms before each part, q, k and v in one map [in, out]."""

from interp_jax.models.config import TransformerConfig
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import ACTIVATIONS, MOST_LAYERS, Fields
from third_party.huggingface.layouts import (
    Entry,
    entry,
    flipped,
    fused,
    head_biases,
    linear,
    reading_heads,
    same,
    writing_heads,
)


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `GPT2LMHeadModel` is."""
    n_heads, d_model = fields.integer("n_head"), fields.integer("n_embd")
    fields.only("scale_attn_by_inverse_layer_idx", False)
    fields.only("reorder_and_upcast_attn", False)
    fields.ignore("n_ctx", "_num_labels")
    return TransformerConfig(
        n_layers=fields.integer("n_layer", most=MOST_LAYERS),
        d_model=d_model,
        n_heads=n_heads,
        d_head=fields.head_width("n_head", "n_embd"),
        d_mlp=fields.integer("n_inner", 4 * d_model),
        d_vocab=fields.integer("vocab_size"),
        n_context=fields.integer("n_positions"),
        activation=fields.choice("activation_function", ACTIVATIONS, "gelu_new"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        attention_scale=0.0 if fields.flag("scale_attn_weights", True) else 1.0,
        positions="learned",
        tied=fields.flag("tie_word_embeddings", True),
        biases="layers",
    )


def table(cfg: TransformerConfig) -> list[Entry]:
    """Its rows."""
    D, M, V, H, E = cfg.d_model, cfg.d_mlp, cfg.d_vocab, cfg.n_heads, cfg.d_head
    layer, attn, mlp = "transformer.h.{l}.", "blocks/attn/", "blocks/mlp/"
    rows = [
        entry("transformer.wte.weight", same(V, D), "embed/W_E"),
        entry("transformer.wpe.weight", same(cfg.n_context, D), "embed/W_pos"),
        entry(
            f"{layer}attn.c_attn.weight",
            flipped(fused(*[reading_heads(H, E, D)] * 3)),
            *(f"{attn}W_{x}" for x in "QKV"),
        ),
        entry(f"{layer}attn.c_attn.bias", fused(*[head_biases(H, E)] * 3), *(f"{attn}b_{x}" for x in "QKV")),
        entry(f"{layer}attn.c_proj.weight", flipped(writing_heads(H, E, D)), f"{attn}W_O"),
        entry(f"{layer}attn.c_proj.bias", same(D), f"{attn}b_O"),
        entry(f"{layer}mlp.c_fc.weight", flipped(linear(D, M)), f"{mlp}W_in"),
        entry(f"{layer}mlp.c_fc.bias", same(M), f"{mlp}b_in"),
        entry(f"{layer}mlp.c_proj.weight", flipped(linear(M, D)), f"{mlp}W_out"),
        entry(f"{layer}mlp.c_proj.bias", same(D), f"{mlp}b_out"),
    ]
    norms = {f"{layer}ln_1": "blocks/ln1", f"{layer}ln_2": "blocks/ln2", "transformer.ln_f": "ln_final"}
    for theirs, ours in norms.items():
        rows += [entry(f"{theirs}.weight", same(D), f"{ours}/w"), entry(f"{theirs}.bias", same(D), f"{ours}/b")]
    return rows if cfg.tied else [*rows, entry("lm_head.weight", linear(D, V), "unembed/W_U")]


ADAPTER = Adapter(
    "GPT2LMHeadModel",
    configure,
    table,
    prefix="transformer.",
    buffers=(r"h\.\d+\.attn\.(bias|masked_bias)$",),
    ties={"lm_head.weight": "transformer.wte.weight"},
)
