"""What HookedTransformerConfig says about a member of the family, and what it cannot say.

Fields that do not change what is computed in float32 and float64 (`norm_dtype`, `norm_cast_first`, `softmax_dtype`,
`query_key_gain`) are left out, and so is what became part of the weights (`embed_scale`, `norm_offset`, `tied`, `biases`).
"""

from typing import Any

import numpy as np

from interp_jax.errors import InputError
from interp_jax.models.config import TransformerConfig
from third_party.huggingface.fields import Fields
from third_party.huggingface.rotary import scaled

ACTIVATIONS = {"gelu": "gelu_new", "gelu_erf": "gelu", "relu": "relu", "silu": "silu"}
NORMS = {"layer": "LN", "rms": "RMS", "none": None}
POSITIONS = {"learned": "standard", "shortformer": "shortformer", "rotary": "rotary", "none": "standard"}
ENCODER = "BertForMaskedLM"  # the architecture that TransformerLens has a HookedEncoder for
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # 3.1 to 3.3


def config_of(cfg: TransformerConfig) -> dict[str, Any]:
    """The arguments of HookedTransformerConfig, without `dtype` and `device`; values are those of JSON.

    Where its "original_architecture" is "BertForMaskedLM", the model is a HookedEncoder, else a HookedTransformer.

    Raises:
      InputError: TransformerLens cannot express this configuration; the message names the field.
    """
    cfg.check()
    _check_common(cfg)
    _check_encoder(cfg) if cfg.placement == "post" else _check_decoder(cfg)
    settings: dict[str, Any] = {
        "n_layers": cfg.n_layers,
        "d_model": cfg.d_model,
        "n_heads": cfg.n_heads,
        "d_head": cfg.d_head,
        "n_ctx": cfg.n_context,
        "d_vocab": cfg.d_vocab,
        "act_fn": ACTIVATIONS[cfg.activation],
        "eps": cfg.norm_eps,
        "normalization_type": NORMS[cfg.norm],
        "positional_embedding_type": POSITIONS[cfg.positions],
        "attention_dir": "causal" if cfg.causal else "bidirectional",
        "use_attn_scale": True,
        "attn_scale": 1 / cfg.attention_scale if cfg.attention_scale else cfg.d_head**0.5,
        "attn_scores_soft_cap": cfg.attention_cap or -1.0,
        "output_logits_soft_cap": cfg.logit_cap or -1.0,
        "use_qk_norm": cfg.qk_norm,
        "use_normalization_before_and_after": cfg.placement == "sandwich",
        "attn_only": not cfg.d_mlp,
    }
    if cfg.d_mlp:
        settings |= {"d_mlp": cfg.d_mlp, "gated_mlp": cfg.gated, "parallel_attn_mlp": cfg.parallel}
    if cfg.placement == "post":
        return settings | {"original_architecture": ENCODER}
    if cfg.n_kv_heads:
        settings["n_key_value_heads"] = cfg.n_kv_heads
    return settings | _windows(cfg) | (_rotary(cfg) if cfg.positions == "rotary" else {})


def is_local(cfg: TransformerConfig) -> tuple[bool, ...]:
    """Which layers have a window."""
    return tuple(bool(cfg.window) and local for local in cfg.local_layers or (True,) * cfg.n_layers)


def _windows(cfg: TransformerConfig) -> dict[str, Any]:
    kinds = ["local" if local else "global" for local in is_local(cfg)]
    return {"use_local_attn": True, "window_size": cfg.window, "attn_types": kinds} if "local" in kinds else {}


def _rotary(cfg: TransformerConfig) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "rotary_base": cfg.rotary_base,
        "rotary_dim": cfg.n_turned,
        "rotary_adjacent_pairs": False,
    }
    local = any(is_local(cfg))
    if local and cfg.local_rotary_base:
        settings["rotary_base_local"] = cfg.local_rotary_base
    factors = cfg.rotary_factors
    if set(factors) <= {1.0}:
        return settings
    if len(set(factors)) == 1:
        if local and not cfg.local_rotary_base:
            raise InputError(
                "model.rotary_factors: TransformerLens leaves local layers unscaled; set local_rotary_base"
            )
        return settings | {"rotary_scaling_factor": 1 / factors[0]}
    factor = float(np.round(1 / min(factors), 6))
    llama3 = {"rope_type": "llama3", "rope_theta": cfg.rotary_base, "factor": factor} | LLAMA3
    known = scaled(Fields(llama3), cfg.n_turned, cfg.n_context, cfg.rotary_base).factors
    if not np.allclose(factors, known, rtol=1e-9, atol=0) or "rotary_base_local" in settings:
        raise InputError(
            "model.rotary_factors: TransformerLens has no factors of one's own: only equal ones, and those of Llama 3.1 to 3.3"
        )
    return settings | {
        "use_NTK_by_parts_rope": True,
        "NTK_by_parts_factor": factor,
        "NTK_by_parts_low_freq_factor": LLAMA3["low_freq_factor"],
        "NTK_by_parts_high_freq_factor": LLAMA3["high_freq_factor"],
        "NTK_original_ctx_len": LLAMA3["original_max_position_embeddings"],
    }


def _check_common(cfg: TransformerConfig) -> None:
    _need(cfg, "positions", *POSITIONS)
    if cfg.positions == "rotary":
        _need(cfg, "rotary_gain", 1.0)
    if cfg.positions in ("rotary", "shortformer") and cfg.position_layers < cfg.n_layers:
        _need(cfg, "position_layers", 0, why="all layers see positions")
    if not cfg.causal and any(is_local(cfg)):
        _need(cfg, "window", 0, why="only causal attention has windows")


def _check_decoder(cfg: TransformerConfig) -> None:
    why = "a HookedTransformer has none"
    _need(cfg, "d_types", 0, why=why)
    _need(cfg, "embed_norm", False, why=why)
    _need(cfg, "head", "linear", why="a HookedTransformer has one")
    if cfg.placement == "sandwich":
        _need(cfg, "norm", "rms", "none", why="norms of what a layer says are RMS norms")


def _check_encoder(cfg: TransformerConfig) -> None:
    why = "a HookedEncoder is a BERT"
    for field, value in (
        ("head", "mlm"), ("positions", "learned"), ("norm", "layer"), ("embed_norm", True), ("d_types", 2),
        ("activation", "gelu_erf"), ("logit_cap", 0.0),
    ):  # fmt: skip
        _need(cfg, field, value, why=why)
    if not cfg.d_mlp:
        raise InputError(f"model.d_mlp = 0: TransformerLens cannot express it ({why})")
    if any(is_local(cfg)):
        _need(cfg, "window", 0, why=why)
    if cfg.n_groups != cfg.n_heads:
        _need(cfg, "n_kv_heads", 0, cfg.n_heads, why=why)


def _need(cfg: TransformerConfig, field: str, *allowed: Any, why: str = "") -> None:
    value = getattr(cfg, field)
    if value not in allowed:
        known = ", ".join(map(repr, allowed))
        reason = f" ({why})" if why else ""
        raise InputError(f"model.{field} = {value!r}: TransformerLens cannot express it{reason}; it can: {known}")
