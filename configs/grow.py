"""A small transformer, grown on real text (the source code of Python's standard library): what its heads become.

./launch/local --config configs/grow.py             two layers, attention only: about ten minutes on two CPU cores
./launch/local --config configs/grow.py:tiny        seconds, to see that it works
./launch/local --config configs/grow.py:mlp         with MLPs
./launch/local --config configs/grow.py:long        six times as many tokens: not measured; an hour by the default's rate
./launch/local --config configs/grow.py:induction   SYNTHETIC repeated segments, no text: an induction circuit in a minute
./launch/local --config configs/grow.py --config.data.path=~/novels      any text file or directory
"""

from typing import Any

import ml_collections

from interp_jax.experiments.config import compose, variant

DEFAULT: dict[str, Any] = {
    "steps": 12_000,
    "batch_size": 8,
    "model.n_heads": 4,
    "model.d_head": 32,
    "model.positions": "relative",
    "model.position_layers": 1,
    "optimizer.name": "adam",
    "optimizer.learning_rate": 6e-3,
    "optimizer.beta2": 0.99,
    "optimizer.warmup_steps": 100,
    "optimizer.decay": "cosine",
    "optimizer.final_rate": 0.1,
    "optimizer.clip_norm": 1.0,
}
TINY: dict[str, Any] = {
    "steps": 30,
    "model.d_model": 32,
    "model.d_head": 8,
    "model.d_vocab": 300,
    "model.n_context": 64,
    "measure.observations": 6,
    "measure.windows": 8,
    "measure.snippet": 24,
    "measure.sample_length": 24,
}
INDUCTION: dict[str, Any] = {
    "stream": "repeats",
    "steps": 800,
    "batch_size": 32,
    "model.d_model": 64,
    "model.d_head": 16,
    "model.d_vocab": 64,
    "model.n_context": 64,
    "measure.sample_length": 40,
}
VARIANTS = {"": {}, "tiny": TINY, "mlp": {"model.d_mlp": 512}, "long": {"steps": 72_000}, "induction": INDUCTION}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.grow", **{**DEFAULT, **variant(arg, VARIANTS)})
