"""What the reference says of every case, stored, so that the comparison runs where there is no PyTorch.

A case is a pair of files: the `config.json` that the reference wrote, and arrays of its run in float64, casts lifted, with
weights by seed, on `batches.padded`. Rows of padding are 0.

    output [B P V]                      logits, or the last stream
    stream, gradient [L+1 B P D]        before every layer and after the last, and of a random projection of the output there
    sites [S], projections [N B P 2]    of every other site that the reference shows, each row's products with two random
                                        directions; the layers of a site one after the other
    pairs [L B Q K]                     which keys a query sees

A row is all that a site has at one position: of scores and patterns, the keys that a query sees, for all heads. Directions are
functions of the site's name. So a change of any number is seen, at its site, layer, row and position.
"""

import json
import tempfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interp_jax.models.sites import sites
from third_party.huggingface import adapter_for, configure
from third_party.huggingface.parity.batches import SEED, Batch, padded
from third_party.huggingface.parity.cases import CASES, Case
from third_party.huggingface.parity.comparison import OUTPUT, PAIRS, error
from third_party.huggingface.parity.ours import GRADIENT, STREAM, Run
from third_party.huggingface.parity.weights import random_tensor
from third_party.safetensors_writer_io import write_checkpoint

DIRECTORY = Path(__file__).parents[3] / "tests" / "third_party" / "huggingface" / "golden"
DIRECTIONS = 2


class Golden(NamedTuple):
    """What is stored of a case.

    Attributes:
      config: the content of `config.json`.
      pairs: which keys a query sees.
      seen: the output and all sites, as `condensed` gives them.
    """

    config: dict[str, Any]
    pairs: np.ndarray
    seen: dict[str, np.ndarray]


def file_name(name: str) -> str:
    """A case's files, without their suffix."""
    return name.replace(", ", "_").replace(" ", "_")


def read(name: str, directory: Path = DIRECTORY) -> Golden:
    """What is stored."""
    config = json.loads((directory / f"{file_name(name)}.json").read_text())
    with np.load(directory / f"{file_name(name)}.npz") as arrays:
        return Golden(config, arrays["pairs"], unpacked(arrays))


def errors(run: Run, stored: Golden, batch: Batch) -> dict[str, float]:
    """The errors of a run of ours at all that is stored, relative to the largest value; infinite where it has no such site."""
    shared = {site: x for site, x in run.sites.items() if site in stored.seen}
    mine = condensed(Run(run.output, shared), batch, stored.pairs)
    return {name: error(mine[name], x) if name in mine else np.inf for name, x in stored.seen.items()}


def condensed(run: Run, batch: Batch, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """What is compared of a run: output, stream and gradients as they are [.. B P D], other sites projected [.. B P 2]."""
    seen = {OUTPUT: run.output}
    for site, x in run.sites.items():
        seen[site] = x if site.removeprefix(GRADIENT) in STREAM else projected(site, x, batch, pairs)
    return {name: np.where(batch.real[..., None], x, 0.0) for name, x in seen.items()}


def projected(site: str, x: np.ndarray, batch: Batch, pairs: np.ndarray) -> np.ndarray:
    """The products of each row with `DIRECTIONS` random directions, [.. B P 2] in float64."""
    if site in PAIRS:
        x = np.where(pairs[:, :, None], x, 0.0).swapaxes(2, 3)  # [L B Q H K]
    if site == "pos_embed":
        x = np.broadcast_to(x, (*batch.tokens.shape, x.shape[-1]))
    rows = x.reshape(*x.shape[: 3 if is_layered(site) else 2], -1).astype(np.float64)
    rng = np.random.default_rng([SEED, zlib.crc32(site.encode())])
    shape = (rows.shape[-1], DIRECTIONS)
    directions = rng.choice([-1, 1], shape) * rng.uniform(0.5, 1.5, shape)  # no entry is small, so none is overlooked
    return rows @ directions / np.sqrt(rows.shape[-1])


def is_layered(site: str) -> bool:
    """Whether a site has a leading axis of layers."""
    return site.startswith("blocks.")


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
    had = {site.name for site in sites(cfg)}  # attention also shows turned queries and keys that are not turned
    run = run._replace(sites={site: x for site, x in run.sites.items() if site.removeprefix(GRADIENT) in had})
    pairs = np.isfinite(run.sites["blocks.attn.scores"]).all(2) & batch.real[:, :, None]
    return Golden(config, pairs, condensed(run, batch, pairs))


def packed(golden: Golden) -> dict[str, np.ndarray]:
    """The arrays of a file; what the stream is after one layer it is before the next, and stored once."""
    seen = golden.seen
    arrays = {"output": seen[OUTPUT], "pairs": golden.pairs}
    for name, prefix in (("stream", ""), ("gradient", GRADIENT)):
        before, after = (seen[prefix + site] for site in STREAM)
        arrays[name] = np.concatenate([before, after[-1:]])
    others = [name for name in seen if name != OUTPUT and name.removeprefix(GRADIENT) not in STREAM]
    layers = [seen[site] if is_layered(site) else seen[site][None] for site in others]
    return arrays | {"sites": np.array(others), "projections": np.concatenate(layers)}


def unpacked(arrays: Any) -> dict[str, np.ndarray]:
    """The output and sites by name."""
    seen = {OUTPUT: arrays["output"]}
    for name, prefix in (("stream", ""), ("gradient", GRADIENT)):
        seen |= {prefix + STREAM[0]: arrays[name][:-1], prefix + STREAM[1]: arrays[name][1:]}
    others, n_layers = arrays["sites"].tolist(), len(arrays["stream"]) - 1
    ends = np.cumsum([n_layers if is_layered(site) else 1 for site in others])
    for site, rows in zip(others, np.split(arrays["projections"], ends[:-1]), strict=True):
        seen[site] = rows if is_layered(site) else rows[0]
    return seen


def write(directory: Path = DIRECTORY) -> None:
    """Stores every case anew."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        golden, file = compute(case), directory / f"{file_name(name)}.npz"
        file.with_suffix(".json").write_text(json.dumps(golden.config, indent=1, sort_keys=True) + "\n")
        np.savez_compressed(file, **packed(golden))
        print(f"{name}: {file.stat().st_size:,} bytes")


def write_checkpoint_by_seed(directory: Path, config: dict[str, Any], seed: int = 0) -> None:
    """The same weights as the reference had, in the names and shapes of the adapter's own table."""
    adapter, cfg = adapter_for(config), configure(config)
    gemma = adapter.architecture.startswith("Gemma")
    tensors = {
        name: random_tensor(name, row.layout.shape, seed, gemma) for name, (row, _) in adapter.tensors(cfg).items()
    }
    write_checkpoint(directory, tensors, config)
