"""Gemma 3, its text model (Kamath et al. 2025): Gemma 2 with normalised queries and keys in the place of caps.

Five of six layers are local, and have a rotary base of their own, to which no scaling applies.
"""

import functools
from typing import Any

from interp_jax.models.config import TransformerConfig
from third_party.huggingface import decoders
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import Fields
from third_party.huggingface.gemma2 import read_gemma
from third_party.huggingface.rotary import read_rotary, scaled

GLOBAL_BASE, LOCAL_BASE = 1_000_000.0, 10_000.0
PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern")  # of which the second is what version 5 writes


def configure(fields: Fields) -> TransformerConfig:
    """The family member that `Gemma3ForCausalLM` is."""
    settings = read_gemma(fields)
    fields.only("attn_logit_softcapping", None)  # the reference has the field and does not use it
    L = settings["n_layers"]
    every = min(fields.integer(name, 6) for name in PATTERNS)
    windows = decoders.read_windows(fields, L, [(layer + 1) % every != 0 for layer in range(L)])
    cap = fields.number("final_logit_softcapping") if fields.get("final_logit_softcapping") is not None else 0.0
    return TransformerConfig(
        **settings, **windows, **read_bases(fields, settings["d_head"]), qk_norm=True, logit_cap=cap
    )


def read_bases(fields: Fields, d_head: int) -> dict[str, Any]:
    """Positions of global layers, and the base of local ones."""
    n_context = fields.integer("max_position_embeddings", 131_072)
    both = fields.get("rope_parameters")
    if both is None:
        old = read_rotary(fields, d_head, n_context, default_base=GLOBAL_BASE)
        return old.settings() | {"local_rotary_base": fields.number("rope_local_base_freq", LOCAL_BASE)}
    if not isinstance(both, dict) or not all(
        kind in decoders.LAYER_TYPES and isinstance(settings, dict | None) for kind, settings in both.items()
    ):
        raise fields.refused("rope_parameters", f"not handled; expected {' and '.join(decoders.LAYER_TYPES)}")
    fields.only("rope_scaling", None)
    parts = [
        scaled(Fields(both.get(kind) or {}, fields.file, f"rope_parameters.{kind}."), d_head, n_context, base)
        for kind, base in zip(decoders.LAYER_TYPES, (GLOBAL_BASE, LOCAL_BASE), strict=True)
    ]
    if parts[1].factors or parts[1].gain != 1 or parts[1].dims != parts[0].dims:
        raise fields.refused("rope_parameters", "not handled: only global layers' positions may be scaled")
    return parts[0].settings() | {"local_rotary_base": parts[1].base}


ADAPTER = Adapter(
    "Gemma3ForCausalLM",
    configure,
    functools.partial(decoders.table, norms=decoders.SANDWICH),
    decoders.PREFIX,
    decoders.BUFFERS,
    decoders.TIES,
)
