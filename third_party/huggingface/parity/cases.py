"""Tiny models: every architecture, and within it what tells its members apart.

Sizes are odd on purpose: heads do not fill the stream, groups are smaller than heads, windows are shorter than the text, caps
are low enough to bite.
"""

from typing import Any, NamedTuple


class Case(NamedTuple):
    """A published configuration.

    Attributes:
      architecture: the reference's class.
      config: the reference's class of configurations.
      fields: what the configuration says.
    """

    architecture: str
    config: str
    fields: dict[str, Any]

    @property
    def module(self) -> str:
        """The reference's module, "gemma3"."""
        return MODULES[self.architecture]


MODULES = {
    "BertForMaskedLM": "bert",
    "BertModel": "bert",
    "GPT2LMHeadModel": "gpt2",
    "GPTNeoXForCausalLM": "gpt_neox",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Phi3ForCausalLM": "phi3",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
SIZES = {
    "vocab_size": 41,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    **TOKENS,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
WIDE = {**GROUPED, "head_dim": 8}  # heads are wider than the stream together
GEMMA = {**WIDE, "query_pre_attn_scalar": 6, "sliding_window": 5}
GPT2 = {"vocab_size": 41, "n_embd": 24, "n_inner": 20, "n_layer": 3, "n_head": 4, "n_positions": 64, **TOKENS}


def _rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0, **settings}}


LLAMA3 = _rope("llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = _rope("yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=8.0)
LONG = _rope(
    "longrope",
    short_factor=[1.0, 1.5, 2.0],
    long_factor=[1.0, 4.0, 8.0],
    partial_rotary_factor=0.75,
)
BASES = {
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
    },
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}

CASES = {
    "gpt2": Case("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt2, untied": Case(
        "GPT2LMHeadModel", "GPT2Config", GPT2 | {"tie_word_embeddings": False, "scale_attn_weights": False}
    ),
    "gpt_neox": Case(
        "GPTNeoXForCausalLM", "GPTNeoXConfig", SIZES | {"hidden_size": 32, "rotary_pct": 0.5, "rotary_emb_base": 100}
    ),
    "gpt_neox, sequential, tied": Case(
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        SIZES
        | {"hidden_size": 32, "use_parallel_residual": False, "tie_word_embeddings": True, "hidden_act": "gelu_fast"},
    ),
    "llama": Case("LlamaForCausalLM", "LlamaConfig", WIDE),
    "llama, all heads, linear": Case(
        "LlamaForCausalLM", "LlamaConfig", WIDE | _rope("linear", factor=2.0) | {"num_key_value_heads": 4}
    ),
    "llama, one key head, llama3, tied": Case(
        "LlamaForCausalLM", "LlamaConfig", WIDE | LLAMA3 | {"num_key_value_heads": 1, "tie_word_embeddings": True}
    ),
    "llama, yarn, biases": Case(
        "LlamaForCausalLM", "LlamaConfig", WIDE | YARN | {"attention_bias": True, "mlp_bias": True}
    ),
    "mistral": Case("MistralForCausalLM", "MistralConfig", WIDE | {"sliding_window": 5}),
    "qwen2": Case("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    "qwen2, windows, tied": Case(
        "Qwen2ForCausalLM",
        "Qwen2Config",
        GROUPED
        | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "tie_word_embeddings": True},
    ),
    "qwen3": Case("Qwen3ForCausalLM", "Qwen3Config", WIDE),
    "gemma2": Case(
        "Gemma2ForCausalLM", "Gemma2Config", GEMMA | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}
    ),
    "gemma3": Case("Gemma3ForCausalLM", "Gemma3TextConfig", GEMMA | BASES),
    "phi3": Case("Phi3ForCausalLM", "Phi3Config", GROUPED | {"hidden_size": 32, "sliding_window": 5}),
    "phi3, longrope": Case(
        "Phi3ForCausalLM", "Phi3Config", GROUPED | LONG | {"hidden_size": 32, "original_max_position_embeddings": 48}
    ),
    "bert": Case("BertForMaskedLM", "BertConfig", SIZES),
    "bert, untied": Case(
        "BertForMaskedLM", "BertConfig", SIZES | {"tie_word_embeddings": False, "hidden_act": "relu"}
    ),
    "bert, encoder": Case("BertModel", "BertConfig", SIZES),
}
PLAIN = tuple(name for name in CASES if "," not in name)  # one of each
