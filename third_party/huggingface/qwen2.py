"""Qwen 2 and 2.5 (Yang et al. 2024): Llama with biases on queries, keys and values; upper layers may have a window."""

from typing import Any

from interp_jax.models.config import TransformerConfig
from third_party.huggingface import decoders
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import Fields


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `Qwen2ForCausalLM` is."""
    settings = decoders.read_llama(fields)
    fields.only("use_mrope", False)  # of its relatives that see
    return TransformerConfig(**settings | {"biases": "qkv"} | read_upper_windows(fields, settings["n_layers"]))


def read_upper_windows(fields: Fields, n_layers: int) -> dict[str, Any]:
    """A window from layer `max_window_layers` on, unless the types of the layers are listed; none unless it is used."""
    first = fields.integer("max_window_layers", 28, least=0)
    if fields.flag("use_sliding_window", False):
        return decoders.read_windows(fields, n_layers, [layer >= first for layer in range(n_layers)])
    fields.ignore("sliding_window")
    fields.only("layer_types", None, ["full_attention"] * n_layers)
    return {}


ADAPTER = Adapter("Qwen2ForCausalLM", configure, decoders.table, decoders.PREFIX, decoders.BUFFERS, decoders.TIES)
