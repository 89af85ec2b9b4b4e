"""Loading a published model holds little more in memory than its weights, also where a tied tensor is published twice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from third_party import huggingface
from third_party.huggingface.parity import golden
from third_party.safetensors_writer_io import write_checkpoint

ROOT = Path(__file__).parents[3]
FIELDS = {"n_embd": 768, "n_head": 12, "n_inner": None, "n_layer": 2, "n_positions": 1024, "vocab_size": 50257}

READER = """
import json, sys
import jax, numpy as np
from third_party import huggingface, placement

def kilobytes(field):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1])

how, directory, dtype = sys.argv[1:]
if how == "kept":
    placement._release = lambda view: None
placement.to_device(np.zeros((3, 3), np.float32), dtype)  # JAX has started
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
before = kilobytes("VmRSS")
params, _ = huggingface.load(directory, dtype=dtype)
peak = (kilobytes("VmHWM") - before) * 1024
print(json.dumps([peak, sum(leaf.nbytes for leaf in jax.tree.leaves(params))]))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """GPT-2 small but for ten of its layers: 214 MB, and 154 MB more, which are the embedding again as `lm_head`."""
    directory = tmp_path_factory.mktemp("large")
    config = golden.read("gpt2").config | FIELDS
    noise = np.random.default_rng(0).random(60_000_000, np.float32)

    def tensors():
        cfg = huggingface.configure(config)
        for name, (row, _) in huggingface.adapter_for(config).tensors(cfg).items():
            yield name, noise[: np.prod(row.layout.shape)].reshape(row.layout.shape)
        yield "lm_head.weight", noise[: 50257 * 768].reshape(50257, 768)

    write_checkpoint(directory, tensors(), config)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "dtype"), [("given back", "float32"), ("given back", "bfloat16"), ("kept", "float32")]
)
def test_loading_holds_little_more_than_the_weights(large, how, dtype):
    """The peak of everything resident (VmHWM) while `load` runs, over the bytes of the parameters that it returns.

    That includes the file's mapped pages, which is why `placement.py` gives them back: the last case shows what they would
    add otherwise.
    """
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs Linux's /proc")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", READER, how, str(large), dtype]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak, weights = json.loads(done.stdout)
    assert weights == 53_561_088 * (2 if dtype == "bfloat16" else 4)
    assert (peak <= 1.2 * weights) == (how == "given back"), peak / weights
