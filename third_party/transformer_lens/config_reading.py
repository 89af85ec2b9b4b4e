"""The member of the family that a HookedTransformerConfig describes.

A field that is neither handled nor known to change nothing that is computed (`INERT`) is refused. The fields are those of
versions 2 and 3.
"""

import sys
from collections.abc import Mapping
from typing import Any

from interp_jax.errors import InputError
from interp_jax.models.config import TransformerConfig
from third_party.huggingface.fields import MOST_LAYERS, Fields
from third_party.huggingface.rotary import scaled
from third_party.transformer_lens.config_writing import ENCODER, config_of

# "initializer_range" and the like; what hooks see, but not what is computed; tokenizers; other kinds of model
INERT = tuple(
    "model_name tokenizer_name tokenizer_prepends_bos default_prepend_bos trust_remote_code from_checkpoint checkpoint_index"
    " checkpoint_label_type checkpoint_value init_mode initializer_range init_weights seed dtype device n_devices n_params"
    " use_attn_result use_split_qkv_input use_hook_mlp_in use_attn_in use_hook_tokens ungroup_grouped_query_attention"
    " decoder_start_token_id tie_word_embeddings uses_rms_norm layer_norm_folding norm_topk_prob train_seq_length"
    " relative_attention_max_distance relative_attention_num_buckets".split()
)
ONLY: dict[str, tuple[Any, ...]] = {
    "clip_qkv": (None,),
    "experts_per_token": (None,),
    "load_in_4bit": (False,),
    "num_experts": (None,),
    "post_embedding_ln": (False,),
    "quantization_method": (None,),
    "rotary_adjacent_pairs": (False,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "use_attention_sinks": (False,),
    "use_dynamic_ntk_rope": (False,),
    "use_logn_attn": (False,),
    "yarn_global_attn_only": (False,),
}
ELSEWHERE = ("Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoeForCausalLM", "GptOssForCausalLM")  # other norms or experts
ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_fast": "gelu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
    "silu": "silu",
}
NORMS = {"LN": "layer", "LNPre": "layer", "RMS": "rms", "RMSPre": "rms"}
POSITIONS = {"standard": "learned", "shortformer": "shortformer", "rotary": "rotary"}
DIRECTIONS = {"causal": True, "bidirectional": False}
LOCALITY = {"local": True, "global": False}


def config_from(settings: Mapping[str, Any], file: str = "config.json") -> TransformerConfig:
    """The configuration that arguments of HookedTransformerConfig describe; what is left out has its default there.

    It has all biases, an unembedding that is not tied, and weights for norms that TransformerLens folded.

    Args:
      settings: the arguments; those that HookedTransformerConfig fills in by itself may be there too.
      file: where they come from, for messages.

    Raises:
      InputError: a field that is missing or not handled.
    """
    fields = Fields(settings, file)
    for name, allowed in ONLY.items():
        fields.only(name, *allowed)
    fields.ignore(*INERT)
    architecture = fields.get("original_architecture", "")
    if not isinstance(architecture, str) or architecture in ELSEWHERE:
        raise fields.refused("original_architecture")
    norm = _norm(fields)
    described = {
        **_sizes(fields),
        **_attention(fields),
        **_windows_and_positions(fields),
        "norm": norm,
        "norm_eps": fields.number("eps", 1e-5),
        "norm_cast_first": True,
        "activation": fields.choice("act_fn", ACTIVATIONS, "relu"),
        "gated": fields.flag("gated_mlp", False),
        "parallel": fields.flag("parallel_attn_mlp", False),
        "placement": "sandwich" if fields.flag("use_normalization_before_and_after", False) else "pre",
        "logit_cap": _limit(fields, "output_logits_soft_cap"),
    }
    if architecture == ENCODER:
        described |= {"placement": "post", "embed_norm": True, "d_types": 2, "head": "mlm"}
    fields.finish()
    cfg = TransformerConfig(**described)
    try:
        cfg.check()
        if architecture == ENCODER:
            config_of(cfg)  # a HookedEncoder is a BERT, whatever these fields say
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return cfg


def _sizes(fields: Fields) -> dict[str, Any]:
    d_model, d_head = fields.integer("d_model"), fields.integer("d_head")
    d_vocab = fields.integer("d_vocab")
    fields.only("d_vocab_out", -1, d_vocab)
    n_heads = d_model // d_head if fields.get("n_heads", -1) == -1 else fields.integer("n_heads")
    d_mlp = fields.integer("d_mlp", 4 * d_model)
    attention_only = fields.flag("attn_only", False)
    grouped = fields.get("n_key_value_heads") is not None
    return {
        "n_layers": fields.integer("n_layers", most=MOST_LAYERS),
        "d_model": d_model,
        "n_heads": n_heads,
        "n_kv_heads": fields.integer("n_key_value_heads") if grouped else 0,
        "d_head": d_head,
        "d_mlp": 0 if attention_only else d_mlp,
        "d_vocab": d_vocab,
        "n_context": fields.integer("n_ctx"),
    }


def _norm(fields: Fields) -> str:
    """`null` means no norm, and a field that is missing LN."""
    fields.get("normalization_type")
    if fields.content.get("normalization_type", "LN") is None:
        norm = "none"
    else:
        norm = fields.choice("normalization_type", NORMS, "LN")
    fields.ignore("final_rms") if norm == "rms" else fields.only("final_rms", False)
    return norm


def _attention(fields: Fields) -> dict[str, Any]:
    usual = fields.flag("use_attn_scale", True)
    divisor = fields.get("attn_scale", -1.0)
    scale = 0.0 if usual else 1.0
    if usual and divisor not in (-1.0, fields.integer("d_head") ** 0.5):
        scale = 1 / fields.number("attn_scale")
    return {
        "attention_scale": scale,
        "attention_cap": _limit(fields, "attn_scores_soft_cap"),
        "causal": fields.choice("attention_dir", DIRECTIONS, "causal"),
        "qk_norm": fields.flag("use_qk_norm", False),
    }


def _limit(fields: Fields, name: str) -> float:
    """A cap; whatever is not positive means none."""
    value = fields.get(name, -1.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise fields.refused(name, "expected a finite number")
    return float(max(value, 0.0))


def _windows_and_positions(fields: Fields) -> dict[str, Any]:
    local: tuple[bool, ...] = ()
    kinds, window = fields.get("attn_types", []), fields.get("window_size")
    if fields.flag("use_local_attn", False):
        if (
            not isinstance(kinds, (list, tuple))
            or len(kinds) < fields.integer("n_layers")
            or set(map(str, kinds)) - {*LOCALITY}
        ):
            raise fields.refused("attn_types", 'expected "local" or "global" for each layer')
        local = tuple(LOCALITY[kind] for kind in kinds[: fields.integer("n_layers")])
        window = fields.integer("window_size")
    described: dict[str, Any] = {"window": window, "local_layers": local} if any(local) else {}
    positions = fields.choice("positional_embedding_type", POSITIONS, "standard")
    return described | {"positions": positions} | _rotary(fields, any(local), positions == "rotary")


def _rotary(fields: Fields, local: bool, wanted: bool) -> dict[str, Any]:
    """Fields of rotary positions; they are looked at, and change nothing, where positions are others."""
    d_head, base = fields.integer("d_head"), fields.number("rotary_base", 10_000.0)
    dims, near = fields.integer("rotary_dim", d_head), fields.get("rotary_base_local")
    rope = {"rope_theta": base, **_scaling(fields)}
    if not wanted:
        return {}
    if near is not None:
        near = fields.number("rotary_base_local")
    if rope["rope_type"] in ("llama3", "yarn") and local and near is not None:
        raise fields.refused("rotary_base_local", f"not handled with rope of type {rope['rope_type']}")
    if rope["rope_type"] == "linear" and local and near is None:
        near = base  # local layers are not scaled
    rotary = scaled(Fields(rope, fields.file, "rope."), dims, fields.integer("n_ctx"), base)
    described = rotary.settings() | {"rotary_dims": 0 if dims == d_head else dims}
    return described | ({"local_rotary_base": near} if local and near is not None else {})


def _scaling(fields: Fields) -> dict[str, Any]:
    """What scales the frequencies, in the words of `huggingface/rotary.py`, whose formulas TransformerLens follows."""
    llama3 = {
        "factor": fields.number("NTK_by_parts_factor", 8.0),
        "low_freq_factor": fields.number("NTK_by_parts_low_freq_factor", 1.0),
        "high_freq_factor": fields.number("NTK_by_parts_high_freq_factor", 4.0),
        "original_max_position_embeddings": fields.integer("NTK_original_ctx_len", 8192),
    }
    yarn = {
        "factor": fields.number("yarn_factor", 1.0),
        "attention_factor": fields.number("yarn_attention_factor", 1.0),
        "beta_fast": fields.number("yarn_beta_fast", 32.0),
        "beta_slow": fields.number("yarn_beta_slow", 1.0),
        "original_max_position_embeddings": fields.integer("yarn_original_max_position_embeddings", 4096),
        "truncate": fields.flag("yarn_truncate", True),
    }
    factor = fields.number("rotary_scaling_factor", 1.0)
    use_yarn = fields.flag("use_yarn_rope", False)
    if fields.flag("use_NTK_by_parts_rope", False):
        return {"rope_type": "llama3"} | llama3
    if use_yarn:
        return {"rope_type": "yarn"} | yarn
    return {"rope_type": "linear", "factor": factor} if factor != 1 else {"rope_type": "default"}
