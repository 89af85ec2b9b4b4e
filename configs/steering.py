"""Steer a model towards comments, strings or deeper indentation: many directions, doses, what else changes, and samples.

./launch/local --config configs/grow.py:mlp --config.steps=4500
./launch/local --config configs/steering.py --config.model.path=runs/grow-mlp         the model that was grown
./launch/local --config configs/steering.py           one that is grown in the run: three to four minutes of processor time
./launch/local --config configs/steering.py:tiny      seconds, to see that it works

Expect: at one divergence directions found by gradients and Fisher's matrix, LoReFT, and what is gated do most, difference of
means and probes a third to two thirds of it, random directions nothing on average; effects are as predicted up to about a
tenth of a nat of divergence.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from interp_jax.experiments.config import compose, variant

TINY: dict[str, Any] = {
    "steps": 30, "grown.model.d_model": 32, "grown.model.d_head": 8, "grown.model.d_mlp": 64, "grown.model.n_context": 64,
    "reading.windows": 64, "reading.measured": 6, "reading.examples": 60, "tuning.steps": 4, "tuning.batch_size": 2,
    "tuning.rates": (0.05,), "features.n_features": 32, "features.k": 4, "features.steps": 20, "doses.doses": (0.2, 0.8),
    "doses.random": 2, "doses.fisher": 1, "doses.gradient": 4, "written.prompts": 1, "written.length": 8,
    "written.tokens": 8,
}  # fmt: skip
VARIANTS = {"": {}, "tiny": TINY}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.steering", **variant(arg, VARIANTS))


def sweep_seeds() -> Iterator[dict[str, Any]]:
    """Three models where they are grown here; in any case three cuts of the files in two, and three draws."""
    for seed in range(3):
        yield {"seed": seed}
