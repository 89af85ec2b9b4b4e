"""The errors of one case: the largest difference at a site, relative to the largest value there.

Rows of padding are left out, and masked scores, which the reference does not show. Only `errors` needs the reference.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from third_party import huggingface
from third_party.huggingface.parity import batches, ours
from third_party.huggingface.parity.cases import Case
from third_party.huggingface.parity.ours import GRADIENT, Run

OUTPUT = "output"
BARS = {"float64": 1e-9, "float32": 2e-5}
PAIRS = ("blocks.attn.scores", "blocks.attn.pattern")  # [.. H Q K]


def error(mine: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference, relative to the largest value; infinite where shapes differ or something is not finite."""
    if mine.shape != reference.shape or not (np.isfinite(mine).all() and np.isfinite(reference).all()):
        return float("inf")
    mine, reference = mine.astype(np.float64), reference.astype(np.float64)
    return float(np.abs(mine - reference).max() / np.abs(reference).max())


def errors(
    case: Case,
    directory: Path,
    dtype: str,
    lift: bool = True,
    batch: batches.Batch | None = None,
) -> dict[str, float]:
    """Every site of a model in `directory`, its output, and gradients.

    Args:
      case: what it is.
      directory: where the reference wrote it.
      dtype: "float32" or "float64".
      lift: whether the reference's casts are lifted, in float64.
      batch: what the models read; by default rows with padding.
    """
    import torch

    from third_party.huggingface.parity import theirs
    from third_party.huggingface.parity.lifting import lifted

    with jax.enable_x64(dtype == "float64"):
        params, cfg = huggingface.load(directory, dtype=jnp.dtype(dtype))
        batch = batch or batches.padded(cfg.d_vocab)
        mine = ours.run(params, batch, cfg)
    with lifted(case.module, lift and dtype == "float64"):
        model = theirs.read_model(case, directory, getattr(torch, dtype))
        reference = theirs.run(model, case, batch, cfg)
    return differences(mine, reference, batch.real)


def differences(mine: Run, reference: Run, real: np.ndarray) -> dict[str, float]:
    """The errors of our output and of the sites that both have seen; `real` [B P] is false for padding."""
    shared = [site for site in mine.sites if site in reference.sites]
    return {OUTPUT: error(mine.output[real], reference.output[real])} | {
        site: error(*kept(site, mine.sites[site], reference.sites[site], real)) for site in shared
    }


def kept(site: str, mine: np.ndarray, reference: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is compared of a site: rows that are no padding, of scores and patterns pairs that are not masked."""
    if site == "pos_embed":
        mine, reference = (np.broadcast_to(x, (*real.shape, x.shape[-1])) for x in (mine, reference))
    if site in PAIRS:
        queries = np.broadcast_to(real[:, None, :, None], reference.shape[1:])
        shown = np.isfinite(reference) & queries
        return mine[shown], reference[shown]
    layered = site.removeprefix(GRADIENT).startswith("blocks.")
    return (mine[:, real], reference[:, real]) if layered else (mine[real], reference[real])
