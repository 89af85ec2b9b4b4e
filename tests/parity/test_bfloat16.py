"""In bfloat16 a model is its casts: where the reference computes in float32, and when it rounds. The configuration says so.

Whole models, whose attention is sharp on purpose, are as near to the reference as the reference is to its own float32: at most
twice that and a unit of the last place, 2^-8 of the largest value, and at most 16 units. Single parts agree exactly, but for
the odd number that lies at the edge between two; with another setting they disagree at a large share of the numbers.
"""

import dataclasses

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from interp_jax.models.attention import Keys, ScoreRule, attend
from interp_jax.models.norms import apply_norm
from third_party import huggingface
from third_party.huggingface.parity import batches, comparison, ours, theirs
from third_party.huggingface.parity.cases import CASES, PLAIN
from third_party.huggingface.parity.lifting import modelling

ULP = 2.0**-8
NORMS = {
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "llama": "model.norm",
    "mistral": "model.norm",
    "qwen2": "model.norm",
    "qwen3": "model.norm",
    "gemma2": "model.norm",
    "gemma3": "model.norm",
    "phi3": "model.norm",
    "bert": "cls.predictions.transform.LayerNorm",
}


def shared(x):
    """The same bfloat16 numbers for both sides."""
    x = np.asarray(x, ml_dtypes.bfloat16)
    return jnp.asarray(x), torch.tensor(x.astype(np.float32)).to(torch.bfloat16)


def disagreement(mine, reference):
    """The share of numbers that differ."""
    return float((np.asarray(mine, np.float32) != reference.detach().float().numpy()).mean())


def check_model(case, directory, batch):
    """The rule above."""
    params, cfg = huggingface.load(directory, dtype=jnp.bfloat16)
    mine = ours.forward(params, batch, cfg)
    assert mine.dtype == jnp.bfloat16
    reference, exact = (
        theirs.forward(theirs.read_model(case, directory, dtype), batch, cfg)[batch.real]
        for dtype in (torch.bfloat16, torch.float32)
    )
    error = comparison.error(mine[batch.real], reference)
    assert error <= min(2 * comparison.error(reference, exact) + ULP, 16 * ULP)


@pytest.mark.parametrize("name", PLAIN)
def test_whole_models(name, written):
    check_model(CASES[name], written(name), batches.padded(CASES[name].fields["vocab_size"]))


@pytest.mark.parametrize("name", PLAIN)
def test_norms_round_where_the_reference_does(name, written):
    params, cfg = huggingface.load(written(name), dtype=jnp.bfloat16)
    norm = theirs.read_model(CASES[name], written(name), torch.bfloat16).get_submodule(NORMS[name])
    mine, reference = shared(np.random.default_rng(0).standard_normal((1, 400, cfg.d_model)))
    expected = norm(reference)

    def differing(**changes):
        rule = cfg.norm_rule._replace(**changes)
        return disagreement(apply_norm(rule, params["ln_final"], mine), expected)

    assert differing() < 0.005
    assert differing(dtype="") > 0.05
    assert differing(cast_first=not cfg.norm_cast_first) > 0.02


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "bert"])
def test_softmax_rounds_where_the_reference_does(name, written):
    cfg = dataclasses.replace(
        huggingface.load(written(name))[1],
        n_heads=2, n_kv_heads=2, d_head=16, attention_scale=0.25, attention_cap=0.0, causal=False,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    (q, their_q), (k, their_k) = (shared(rng.standard_normal((1, 64, 2, 16))) for _ in "qk")
    layer = torch.nn.Module()
    layer.num_key_value_groups, layer.training = 1, False
    heads_first = [x.transpose(1, 2) for x in (their_q, their_k, their_k)]
    pattern = modelling(CASES[name].module).eager_attention_forward(layer, *heads_first, None, scaling=0.25)[1]
    positions = jnp.arange(64)[None]

    def differing(dtype):
        rule = ScoreRule(dataclasses.replace(cfg, softmax_dtype=dtype), jnp.int32(1000), None)
        return disagreement(attend(q, [Keys(k, k, positions)], positions, rule), pattern)

    assert differing(cfg.softmax_dtype) < 0.01
    assert differing("") > 0.1


def test_positions_beyond_256_are_told_apart(tmp_path):
    """A bfloat16 holds whole numbers up to 256 only: positions and their angles must not pass through one."""
    case = CASES["llama"]._replace(fields=CASES["llama"].fields | {"max_position_embeddings": 1024})
    theirs.write_model(case, tmp_path)
    batch = batches.padded(case.fields["vocab_size"])
    check_model(case, tmp_path, batch._replace(positions=np.where(batch.real, batch.positions + 900, -1)))
