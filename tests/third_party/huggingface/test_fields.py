"""Configurations: what is published is understood in its old and new form, and what is not understood is refused."""

import math

import numpy as np
import pytest

from interp_jax.errors import InputError
from third_party.huggingface import ADAPTERS, adapter_for, configure
from third_party.huggingface.fields import INERT
from third_party.huggingface.parity import golden
from third_party.huggingface.parity.cases import CASES, PLAIN


def config(name, without=(), **changes):
    fields = golden.read(name).config | changes
    return {key: value for key, value in fields.items() if key not in without}


@pytest.mark.parametrize("name", PLAIN)
def test_an_unknown_field_is_refused(name):
    with pytest.raises(InputError, match='^config.json: rotary_of_tomorrow = {"a": 1}: not handled$'):
        configure(config(name, rotary_of_tomorrow={"a": 1}))


CHANGING = [
    ("gpt2", "scale_attn_by_inverse_layer_idx", True),
    ("gpt2", "reorder_and_upcast_attn", True),
    ("gpt2", "add_cross_attention", True),
    ("gpt2", "activation_function", "tanh"),
    ("gpt2", "pruned_heads", {"0": [1]}),
    ("gpt2", "per_layer_config", {"0": {"n_head": 2}}),
    ("gpt2", "n_layer", 10**9),
    ("gpt2", "n_embd", 10**30),
    ("gpt2", "n_head", 5),
    ("gpt2", "n_positions", None),
    ("gpt_neox", "num_attention_heads", 5),
    ("gpt_neox", "attention_bias", False),
    ("gpt_neox", "hidden_act", "gelu_10"),
    ("llama", "attention_bias", True),
    ("llama", "mlp_bias", True),
    ("llama", "hidden_act", ["silu"]),
    ("llama", "quantization_config", {"bits": 4}),
    ("llama", "rope_scaling", {"rope_type": "dynamic", "factor": 2.0}),
    ("llama", "rope_scaling", {"rope_type": "linear", "factor": 2.0, "original": 1}),
    ("llama", "rope_scaling", {"rope_type": ["linear"], "factor": 2.0}),
    ("llama", "rope_scaling", {"rope_type": "linear", "factor": 1e-320}),
    ("llama", "rope_theta", 7.0),
    ("llama", "num_hidden_layers", 2.5),
    ("llama", "num_hidden_layers", True),
    ("llama", "rms_norm_eps", "small"),
    ("llama", "rms_norm_eps", 10**400),
    ("llama", "rms_norm_eps", float("nan")),
    ("llama", "head_dim", 2**30),
    ("llama, yarn, biases", "rope_parameters", {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1.0}),
    ("llama, yarn, biases", "rope_parameters", {"rope_type": "yarn", "factor": 4.0, "mscale": "a"}),
    ("mistral", "sliding_window", 2**40),
    ("llama", "tie_word_embeddings", 1),
    ("llama", "sliding_window", 4),
    ("qwen2", "use_mrope", True),
    ("qwen2", "layer_types", ["sliding_attention"] * 3),
    ("qwen2, windows, tied", "layer_types", ["sliding_attention", "full_attention", "chunked_attention"]),
    ("qwen2, windows, tied", "layer_types", ["sliding_attention"] * 2),
    ("qwen2, windows, tied", "layer_types", [["sliding_attention"], {}, None]),
    ("qwen2, windows, tied", "max_window_layers", "all"),
    ("qwen2, windows, tied", "sliding_window", None),
    ("qwen3", "attention_bias", True),
    ("gemma2", "use_bidirectional_attention", True),
    ("gemma2", "attention_bias", True),
    ("gemma3", "use_bidirectional_attention", True),
    ("gemma3", "attn_logit_softcapping", 50.0),
    ("gemma3", "rope_parameters", {"rope_type": "default"}),
    ("gemma3", "rope_parameters", {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}),
    ("gemma3", "rope_parameters", {"full_attention": 3}),
    ("phi3", "attention_bias", True),
    ("phi3, longrope", "rope_parameters", {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}),
    ("phi3, longrope", "rope_parameters", {"rope_type": "longrope", "short_factor": [1.0, "a", 2.0]}),
    ("phi3, longrope", "rope_parameters", {"rope_type": "longrope", "short_factor": [1.0, 0, 2.0]}),
    ("phi3, longrope", "original_max_position_embeddings", 1),
    ("bert", "num_attention_heads", 5),
    ("bert", "is_decoder", True),
    ("bert", "position_embedding_type", "relative_key"),
]


@pytest.mark.parametrize("name, field, value", CHANGING, ids=[f"{n}: {f}" for n, f, _ in CHANGING])
def test_a_value_that_would_change_the_function_is_refused(name, field, value):
    with pytest.raises(InputError, match=r"^config\.json: ") as caught:
        configure(config(name, **{field: value}))
    assert "\n" not in str(caught.value) and (field in str(caught.value) or "rope_" in str(caught.value))


@pytest.mark.parametrize("name", PLAIN)
def test_inert_fields_change_nothing(name):
    fields = {field: "whatever" for field in INERT - {"architectures"}}
    assert configure(config(name, **fields)) == configure(config(name))


@pytest.mark.parametrize("field", ["hidden_size", "num_attention_heads", "vocab_size", "intermediate_size"])
def test_a_missing_field_is_named(field):
    with pytest.raises(InputError, match=f"no field '{field}'"):
        configure(config("llama", without=(field,)))


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("gpt2", {"n_positions": None}, "n_positions = null: it is needed"),
        ("gpt2", {"n_head": 5}, "n_head = 5: must divide n_embd = 24"),
        ("qwen2", {"num_attention_heads": 5}, "num_attention_heads = 5: must divide hidden_size = 24"),
        ("gpt2", {"n_layer": 10**9}, "n_layer = 1000000000: expected at most 10000"),
        ("gpt2", {"a\nb": "c\nd"}, r"""'a\nb' = "c\nd": not handled"""),
        (
            "gpt_neox",
            {"rotary_pct": 1e-3, "rope_parameters": None},
            "0 of a head's 8 dimensions would turn; expected 2 to 8",
        ),
        ("gpt_neox", {"rotary_pct": 1e300, "rope_parameters": None}, "dimensions would turn; expected 2 to 8"),
    ],
)
def test_impossible_sizes_say_what_is_possible(name, changes, words):
    with pytest.raises(InputError) as caught:
        configure(config(name, **changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_head_may_have_a_width_of_its_own():
    assert configure(config("llama", num_attention_heads=5, num_key_value_heads=1)).d_head == 8


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(InputError, match="'GPT2Model' is unknown; did you mean 'GPT2LMHeadModel'"):
        adapter_for({"architectures": ["GPT2Model"]})
    with pytest.raises(InputError, match="expected a list with one name"):
        adapter_for({})
    assert all(adapter_for({"architectures": [name]}).architecture == name for name in ADAPTERS)


def test_impossible_sizes_name_the_file():
    with pytest.raises(InputError, match="^config.json: model.n_kv_heads = 3: must divide"):
        configure(config("llama", num_key_value_heads=3))


# --- positions

OLD_AND_NEW = [
    ("llama", {"rope_theta": 7.0}, {"rope_type": "default", "rope_theta": 7.0}),
    (
        "llama",
        {"rope_theta": 7.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_type": "linear", "rope_theta": 7.0, "factor": 2.0},
    ),
    ("gpt_neox", {"rotary_emb_base": 7, "rotary_pct": 0.5}, {"rope_theta": 7.0, "partial_rotary_factor": 0.5}),
    ("phi3", {"rope_theta": 7.0, "partial_rotary_factor": 0.75, "rope_scaling": None},
     {"rope_theta": 7.0, "partial_rotary_factor": 0.75}),
]  # fmt: skip


@pytest.mark.parametrize("name, old, new", OLD_AND_NEW)
def test_old_and_new_settings_of_positions_mean_the_same(name, old, new):
    assert configure(config(name, without=("rope_parameters",), **old)) == configure(config(name, rope_parameters=new))


def test_gemma3s_old_settings():
    old = {"rope_theta": 9.0, "rope_local_base_freq": 8.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
           "sliding_window_pattern": 2}  # fmt: skip
    cfg = configure(config("gemma3", without=("rope_parameters", "layer_types", "_sliding_window_pattern"), **old))
    assert (cfg.rotary_base, cfg.local_rotary_base, set(cfg.rotary_factors)) == (9.0, 8.0, {0.5})
    assert cfg.local_layers == (True, False, True)


def test_llama3_keeps_fast_pairs_and_slows_slow_ones():
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}  # fmt: skip
    cfg = configure(config("llama", without=("rope_parameters",), head_dim=64, rope_theta=5e5, rope_scaling=scaling))
    turns = 8192 * 5e5 ** (-np.arange(32) / 32) / (2 * math.pi)
    factors = np.array(cfg.rotary_factors)
    assert (factors[turns > 4] == 1).all() and (factors[turns < 1] == 1 / 8).all()
    middle = factors[(turns > 1) & (turns < 4)]
    assert len(middle) and ((middle > 1 / 8) & (middle < 1)).all() and (np.diff(factors) <= 0).all()


def test_longrope_is_loaded_for_the_context_of_its_first_training():
    cfg = configure(config("phi3, longrope"))
    assert cfg.n_context == 48 and cfg.rotary_factors == (1.0, 1 / 1.5, 0.5) and cfg.rotary_dims == 6
    assert cfg.rotary_gain == pytest.approx(math.sqrt(1 + math.log(64 / 48) / math.log(48)))


# --- files as their publishers wrote them

PUBLISHED = {
    "gpt2": (
        {"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
         "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
         "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
         "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1,
         "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
         "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "vocab_size": 50257},
        {"d_mlp": 3072, "tied": True, "activation": "gelu", "positions": "learned", "d_head": 64},
    ),
    "Pythia": (
        {"architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
         "hidden_size": 512, "initializer_range": 0.02, "intermediate_size": 2048, "layer_norm_eps": 1e-05,
         "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 8, "num_hidden_layers": 6,
         "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "torch_dtype": "float16",
         "transformers_version": "4.24.0", "use_cache": True, "use_parallel_residual": True, "vocab_size": 50304},
        {"rotary_dims": 16, "parallel": True, "activation": "gelu_erf", "tied": False},
    ),
    "Llama 3.2": (
        {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "bos_token_id": 128000, "eos_token_id": [128001, 128008], "head_dim": 64, "hidden_act": "silu",
         "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072,
         "mlp_bias": False, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
         "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
         "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                          "original_max_position_embeddings": 8192, "rope_type": "llama3"},
         "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
         "vocab_size": 128256},
        {"n_kv_heads": 8, "tied": True, "norm_cast_first": True, "biases": "none"},
    ),
    "Gemma 3": (
        {"architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "attn_logit_softcapping": None, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
         "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
         "hidden_size": 1152, "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 32768,
         "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
         "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
         "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
         "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 262144},
        {"window": 512, "qk_norm": True, "local_rotary_base": 10000.0, "tied": True, "norm_offset": 1.0},
    ),
    "MiniLM": (
        {"_name_or_path": "nreimers/MiniLM-L6-H384-uncased", "architectures": ["BertModel"],
         "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False, "hidden_act": "gelu",
         "hidden_dropout_prob": 0.1, "hidden_size": 384, "initializer_range": 0.02, "intermediate_size": 1536,
         "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12,
         "num_hidden_layers": 6, "pad_token_id": 0, "position_embedding_type": "absolute",
         "transformers_version": "4.8.2", "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522},
        {"head": "none", "placement": "post", "causal": False, "d_types": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fields, meant", PUBLISHED.values(), ids=PUBLISHED)
def test_published_files_are_understood(fields, meant):
    cfg = configure(fields)
    assert {name: getattr(cfg, name) for name in meant} == meant


def test_the_cases_cover_every_architecture():
    assert {case.architecture for case in CASES.values()} == set(ADAPTERS)
