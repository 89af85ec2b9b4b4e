"""The reference's outputs for every case, stored, so that the comparison runs where there is no PyTorch.

A case is a pair of files: the `config.json` that the reference wrote, and its logits [B P V] (or last stream) and stream at
every layer [L+1 B P D] in float64, casts lifted, for weights by seed. Rows of padding are zero.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from third_party.huggingface import adapter_for, configure
from third_party.huggingface.parity.batches import Batch, padded
from third_party.huggingface.parity.cases import CASES, Case
from third_party.huggingface.parity.weights import random_tensor
from third_party.safetensors_writer_io import write_checkpoint

DIRECTORY = Path(__file__).parents[3] / "tests" / "third_party" / "huggingface" / "golden"


class Golden(NamedTuple):
    """What is stored of a case."""

    config: dict[str, Any]
    output: np.ndarray
    stream: np.ndarray


def file_name(name: str) -> str:
    """A case's files, without their suffix."""
    return name.replace(", ", "_").replace(" ", "_")


def read(name: str, directory: Path = DIRECTORY) -> Golden:
    """What is stored."""
    with np.load(directory / f"{file_name(name)}.npz") as arrays:
        config = json.loads((directory / f"{file_name(name)}.json").read_text())
        return Golden(config, arrays["output"], arrays["stream"])


def compute(case: Case) -> Golden:
    """What the reference says now; needs PyTorch."""
    import torch

    from third_party.huggingface.parity import theirs
    from third_party.huggingface.parity.lifting import lifted

    with tempfile.TemporaryDirectory() as temporary, lifted(case.module):
        directory = Path(temporary)
        theirs.write_model(case, directory)
        config = json.loads((directory / "config.json").read_text())
        cfg = configure(config)
        batch = padded(cfg.d_vocab)
        run = theirs.run(theirs.read_model(case, directory, torch.float64), case, batch, cfg)
    stream = np.concatenate([run.sites["blocks.resid_pre"], run.sites["blocks.resid_post"][-1:]])
    return Golden(config, *(shown(x, batch) for x in (run.output, stream)))


def shown(x: np.ndarray, batch: Batch) -> np.ndarray:
    """Zero at padding."""
    return np.where(batch.real[..., None], x, 0.0)


def write(directory: Path = DIRECTORY) -> None:
    """Stores every case anew."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        golden = compute(case)
        (directory / f"{file_name(name)}.json").write_text(json.dumps(golden.config, indent=1, sort_keys=True) + "\n")
        np.savez_compressed(directory / f"{file_name(name)}.npz", output=golden.output, stream=golden.stream)
        print(f"{name}: {golden.output.nbytes + golden.stream.nbytes:,} bytes")


def write_checkpoint_by_seed(directory: Path, config: dict[str, Any], seed: int = 0) -> None:
    """The same weights as the reference had, in the names and shapes of the adapter's own table."""
    adapter, cfg = adapter_for(config), configure(config)
    gemma = adapter.architecture.startswith("Gemma")
    tensors = {
        name: random_tensor(name, row.layout.shape, seed, gemma) for name, (row, _) in adapter.tensors(cfg).items()
    }
    write_checkpoint(directory, tensors, config)
