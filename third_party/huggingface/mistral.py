"""Mistral (Jiang et al. 2023): Llama, and all layers may see no further than a window."""

from interp_jax.models.config import TransformerConfig
from third_party.huggingface import decoders
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import Fields


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `MistralForCausalLM` is."""
    settings = decoders.read_llama(fields)
    sliding = fields.get("sliding_window") is not None
    return TransformerConfig(**settings, **({"window": fields.integer("sliding_window")} if sliding else {}))


ADAPTER = Adapter("MistralForCausalLM", configure, decoders.table, decoders.PREFIX, decoders.BUFFERS, decoders.TIES)
