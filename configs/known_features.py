"""Dictionaries on activations made of known features: what each kind recovers, beside what it explains (SynthSAEBench).

    ./launch/local --config configs/known_features.py                    every kind at one sparsity, five seeds, scaled down
    ./launch/local --config configs/known_features.py:tiny               seconds, to see that it works
    ./launch/local --config configs/known_features.py --sweep frontier   over sparsities, for the frontier
    ./launch/local --config configs/known_features.py:16k                SynthSAEBench-16k as published; for a GPU, hours

Expect: L1 recovers least, and shrinks; Matryoshka has the best detectors where features are in trees; matching pursuit explains
most, and detects worst.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from interp_jax.dictionaries.config import WIDE_KERNEL
from interp_jax.experiments.config import compose, variant

Overrides = dict[str, Any]

PUBLISHED = {  # SynthSAEBench-16k's, magnitudes in units of the largest mean
    "data.compensated": True,
    "data.mean_last": 0.8,
    "data.deviation": 0.1,
    "data.spread": 0.1,
    "data.depth": 3,
}
SCALED = PUBLISHED | {
    "data.n_features": 512,
    "data.d_model": 64,
    "data.roots": 8,
    "data.children": 3,
    "dictionary.d_in": 64,
    "dictionary.n_features": 128,
    "dictionary.most": 24,
}
FULL = PUBLISHED | {
    "steps": 195_312,
    "batch_size": 1_024,
    "stream_steps": 20,
    "measure.blocks": 64,
    "data.n_features": 16_384,
    "data.d_model": 768,
    "data.roots": 128,
    "dictionary.d_in": 768,
    "dictionary.n_features": 4_096,
    "dictionary.most": 64,
    "optimizer.learning_rate": 3e-4,
}
TINY = {"steps": 30, "batch_size": 64, "stream_steps": 10, "measure.blocks": 2, "measure.examples": 128}
VARIANTS = {"": SCALED, "tiny": SCALED | TINY, "16k": FULL}
KINDS = ("batch_topk", "matryoshka", "topk", "jumprelu", "gated", "standard", "matching_pursuit")
PENALISED = ("jumprelu", "gated", "standard")
JUMPRELU = {f"dictionary.{name}": value for name, value in WIDE_KERNEL.items()}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.known_features", **variant(arg, VARIANTS))


def at(kind: str, l0: int, seed: int) -> Overrides:
    """A dictionary of a kind with so many active features."""
    fixed: Overrides = {"dictionary.kind": kind, "seed": seed}
    if kind not in PENALISED:
        return fixed | {"dictionary.k": l0}
    if kind == "jumprelu":
        fixed |= JUMPRELU
    return fixed | {"dictionary.control": "l0", "dictionary.target": float(l0), "dictionary.sparsity": 0.05}


def over(sparsities: tuple[int, ...], seeds: int) -> Iterator[Overrides]:
    """Every kind."""
    for kind in KINDS:
        for l0 in sparsities:
            for seed in range(seeds):
                yield at(kind, l0, seed)


def sweep_default() -> Iterator[Overrides]:
    """All kinds, three quarters of the true features active (of 6.8; published: 25 of 34), five seeds."""
    yield from over((5,), 5)


def sweep_tiny() -> Iterator[Overrides]:
    """All kinds, two seeds."""
    yield from over((5,), 2)


def sweep_frontier() -> Iterator[Overrides]:
    """All kinds over sparsities."""
    yield from over((2, 3, 4, 5, 7, 10, 15, 20), 2)


def sweep_16k() -> Iterator[Overrides]:
    """The sparsity at which values are published."""
    yield from over((25,), 1)
