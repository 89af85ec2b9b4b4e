"""Llama 1 to 3 (Touvron et al. 2023; Dubey et al. 2024): rotary positions and their scalings, grouped keys and values."""

from interp_jax.models.config import TransformerConfig
from third_party.huggingface import decoders
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import Fields


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `LlamaForCausalLM` is."""
    settings = decoders.read_llama(fields)
    biased = fields.flag("attention_bias", False)
    if biased != fields.flag("mlp_bias", False):
        raise fields.refused("attention_bias", "not handled where it differs from mlp_bias")
    return TransformerConfig(**settings | {"biases": "layers" if biased else "none"})


ADAPTER = Adapter("LlamaForCausalLM", configure, decoders.table, decoders.PREFIX, decoders.BUFFERS, decoders.TIES)
