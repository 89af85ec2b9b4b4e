"""Qwen 3 (Yang et al. 2025): Llama with queries and keys normalised; upper layers may have a window."""

from interp_jax.models.config import TransformerConfig
from third_party.huggingface import decoders
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import Fields
from third_party.huggingface.qwen2 import read_upper_windows


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `Qwen3ForCausalLM` is."""
    settings = decoders.read_llama(fields, d_head=128)
    fields.only("attention_bias", False)
    return TransformerConfig(**settings, qk_norm=True, **read_upper_windows(fields, settings["n_layers"]))


ADAPTER = Adapter("Qwen3ForCausalLM", configure, decoders.table, decoders.PREFIX, decoders.BUFFERS, decoders.TIES)
