"""Phi-3 and Phi-4-mini (Abdin et al. 2024): Llama with fused maps, part of a head turned, LongRoPE, a window."""

from interp_jax.models.config import TransformerConfig
from third_party.huggingface import decoders
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import Fields
from third_party.huggingface.layouts import Entry, entry, fused, linear, writing_heads


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `Phi3ForCausalLM` is; with LongRoPE, for contexts up to those it was first trained on."""
    for name in ("attention_bias", "mlp_bias", "lm_head_bias"):
        fields.only(name, False)
    for name in ("interpolate_factor", "full_attn_mod"):  # of the publisher's own code
        fields.only(name, 1)
    settings = decoders.read_llama(with_context(fields))
    sliding = fields.get("sliding_window") is not None
    return TransformerConfig(
        **settings | {"norm_eps": fields.number("rms_norm_eps", 1e-5)},
        **({"window": fields.integer("sliding_window")} if sliding else {}),
    )


def with_context(fields: Fields) -> Fields:
    """The same fields; the context of the first training, which this family keeps at the top, among the rotary settings."""
    context = fields.get("original_max_position_embeddings")
    for name in ("rope_parameters", "rope_scaling"):
        settings = fields.get(name)
        if context is not None and isinstance(settings, dict):
            fields.content = {**fields.content, name: {**settings, "original_max_position_embeddings": context}}
    return fields


def table(cfg: TransformerConfig) -> list[Entry]:
    """Its rows: queries, keys and values are one tensor, and so are gate and up."""
    layer, D, M = decoders.LAYER, cfg.d_model, cfg.d_mlp
    attn, mlp = "blocks/attn/", "blocks/mlp/"
    return [
        *decoders.ends(cfg),
        *decoders.layer_norms(cfg, decoders.NORMS),
        entry(
            f"{layer}self_attn.qkv_proj.weight",
            fused(*decoders.reading_maps(cfg).values()),
            *(f"{attn}W_{x}" for x in "QKV"),
        ),
        entry(f"{layer}self_attn.o_proj.weight", writing_heads(cfg.n_heads, cfg.d_head, D), f"{attn}W_O"),
        entry(f"{layer}mlp.gate_up_proj.weight", fused(linear(D, M), linear(D, M)), f"{mlp}W_gate", f"{mlp}W_in"),
        entry(f"{layer}mlp.down_proj.weight", linear(M, D), f"{mlp}W_out"),
    ]


ADAPTER = Adapter("Phi3ForCausalLM", configure, table, decoders.PREFIX, decoders.BUFFERS, decoders.TIES)
