"""Activations of a model, grown here or published, harvested once and kept on disk, to train dictionaries on.

./launch/local --config configs/grow.py:mlp
./launch/local --config configs/store.py --config.model.path=runs/grow-mlp --config.store=runs/activations
./launch/local --config configs/dictionaries.py --config.model.path=runs/grow-mlp --config.store=runs/activations
./launch/local --config configs/store.py:tiny --config.model.path=runs/grow-tiny --config.store=runs/few    to see that it works

Expect: two gigabytes, as many rows as the dictionaries' default reads; the dictionaries come out as if they had harvested.
"""

from typing import Any

import ml_collections

from interp_jax.experiments.config import compose, variant

TINY: dict[str, Any] = {"rows": 1_280, "batch_size": 64, "stream_steps": 10, "harvest.windows": 4}
VARIANTS = {"": {}, "tiny": TINY}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.store", **variant(arg, VARIANTS))
