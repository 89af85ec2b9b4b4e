"""Gemma 2 (Riviere et al. 2024): norms on both sides, every other layer local, capped scores and logits, scaled embeddings."""

import functools
from typing import Any

from interp_jax.models.config import TransformerConfig
from third_party.huggingface import decoders
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import ACTIVATIONS, Fields
from third_party.huggingface.rotary import read_rotary


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `Gemma2ForCausalLM` is."""
    settings = read_gemma(fields)
    L = settings["n_layers"]
    windows = decoders.read_windows(fields, L, [layer % 2 == 0 for layer in range(L)])
    rotary = read_rotary(fields, settings["d_head"], fields.integer("max_position_embeddings", 8192))
    return TransformerConfig(
        **settings,
        **rotary.settings(),
        **windows,
        attention_cap=read_cap(fields, "attn_logit_softcapping", 50.0),
        logit_cap=read_cap(fields, "final_logit_softcapping", 30.0),
    )


def read_gemma(fields: Fields) -> dict[str, Any]:
    """What Gemma 2 and 3 share, positions and windows apart. Their files' `hidden_act` is read by nobody."""
    fields.ignore("hidden_act")
    fields.only("use_bidirectional_attention", None, False)
    fields.only("attention_bias", False)
    shape = decoders.read_shape(fields, d_head=256)
    return shape | {
        "n_kv_heads": fields.integer("num_key_value_heads", 4),
        "activation": fields.choice("hidden_activation", ACTIVATIONS, "gelu_pytorch_tanh"),
        "norm_offset": 1.0,
        "placement": "sandwich",
        "embed_scale": shape["d_model"] ** 0.5,
        "attention_scale": fields.number("query_pre_attn_scalar", 256) ** -0.5,
        "tied": fields.flag("tie_word_embeddings", True),
    }


def read_cap(fields: Fields, name: str, default: float) -> float:
    """A cap; `null` means none, a missing field the default."""
    if name in fields.content and fields.get(name) is None:
        return 0.0
    return fields.number(name, default)


ADAPTER = Adapter(
    "Gemma2ForCausalLM",
    configure,
    functools.partial(decoders.table, norms=decoders.SANDWICH),
    decoders.PREFIX,
    decoders.BUFFERS,
    decoders.TIES,
)
