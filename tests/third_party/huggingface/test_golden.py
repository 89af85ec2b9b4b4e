"""Without PyTorch: logits and the stream at every layer are those that the reference gave, stored in `golden/`.

`./launch/test --peers` makes them again and compares; `python -m third_party.huggingface.parity golden` rewrites them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from third_party import huggingface
from third_party.huggingface.parity import golden, ours
from third_party.huggingface.parity.batches import padded
from third_party.huggingface.parity.cases import CASES, PLAIN

BARS = {"float64": 1e-9, "float32": 2e-5}


@functools.partial(jax.jit, static_argnums=2)
def forward(params, tokens, cfg, positions, types):
    output, seen = taps.record(ours.model, ours.STREAM)(params, tokens, cfg, positions, types)
    return output, jnp.concatenate([seen["blocks.resid_pre"], seen["blocks.resid_post"][-1:]])


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in PLAIN else pytest.mark.slow) for n in CASES])
def test_outputs_and_stream_are_those_of_the_reference(name, dtype, tmp_path):
    stored = golden.read(name)
    golden.write_checkpoint_by_seed(tmp_path, stored.config)
    with jax.enable_x64(dtype == "float64"):
        params, cfg = huggingface.load(tmp_path, dtype=dtype)
        batch = padded(cfg.d_vocab)
        output, stream = forward(params, batch.tokens, cfg, batch.positions, batch.types)
    assert output.dtype == stream.dtype == dtype
    for mine, reference in ((output, stored.output), (stream, stored.stream)):
        mine = golden.shown(np.asarray(mine), batch)
        assert np.abs(mine - reference).max() <= BARS[dtype] * np.abs(reference).max()


def test_what_is_stored_is_small():
    assert sum(file.stat().st_size for file in golden.DIRECTORY.iterdir()) <= 2_000_000


def test_every_stored_file_belongs_to_a_case():
    expected = {f"{golden.file_name(name)}{suffix}" for name in CASES for suffix in (".json", ".npz")}
    assert {file.name for file in golden.DIRECTORY.iterdir()} == expected
