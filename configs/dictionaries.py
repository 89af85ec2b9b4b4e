"""Populations of dictionaries on a model, grown here or published: sparsity against fidelity, of every kind.

./launch/local --config configs/grow.py:mlp
./launch/local --config configs/dictionaries.py --config.model.path=runs/grow-mlp
./launch/local --config configs/dictionaries.py:tiny --config.model.path=runs/grow-tiny       to see that it works
    … --config.layers="(0, 1)" --sweep places      one of each, on one harvest; with `--sweep default` all of each
    … --sweep default --sweep seeds    whether another seed finds the same features
    … --config.model.path=gpt2 --config.data.path=texts.jsonl --config.dictionary.d_in=768      published weights, on a text

Expect: more features explain more; JumpReLU, TopK and BatchTopK on one frontier, L1 below it; the loss recovered is above the
variance explained.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from interp_jax.dictionaries.config import WIDE_KERNEL
from interp_jax.experiments.config import compose, variant

Overrides = dict[str, Any]
TINY = {
    "steps": 20, "batch_size": 64, "stream_steps": 10, "harvest.windows": 4, "measure.windows": 8, "measure.at_once": 4,
    "dictionary.d_in": 32, "dictionary.n_features": 64,
}  # fmt: skip
VARIANTS = {"": {}, "tiny": TINY}
JUMPRELU = {f"dictionary.{name}": value for name, value in WIDE_KERNEL.items()}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.dictionaries", **variant(arg, VARIANTS))


def sweep_default() -> Iterator[Overrides]:
    """Five kinds at four sparsities each."""
    for kind in ("topk", "batch_topk", "matryoshka"):
        for k in (4, 8, 16, 32):
            yield {"dictionary.kind": kind, "dictionary.k": k}
    for kind in ("jumprelu", "standard"):
        for target in (4.0, 8.0, 16.0, 32.0):
            yield {
                "dictionary.kind": kind,
                "dictionary.control": "l0",
                "dictionary.target": target,
                "dictionary.sparsity": 0.05,
                **(JUMPRELU if kind == "jumprelu" else {}),
            }


def sweep_places(config: ml_collections.ConfigDict) -> Iterator[Overrides]:
    """Every one of `config.sites` in every one of `config.layers`, harvested in one pass."""
    for place in range(len(config.sites) * len(config.layers)):
        yield {"place": place}


def sweep_seeds() -> Iterator[Overrides]:
    """Three seeds, with which the report says whether another one finds the same features."""
    for seed in range(3):
        yield {"seed": seed}


def sweep_tiny() -> Iterator[Overrides]:
    """Two kinds."""
    for kind in ("topk", "jumprelu"):
        for k in (4, 8):
            yield {"dictionary.kind": kind, "dictionary.k": k, "dictionary.sparsity": 0.01 * k}
