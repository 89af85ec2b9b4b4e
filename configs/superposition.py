"""Toy models of superposition: sparse features squeezed into few dimensions, over sparsity, importance and seeds.

    ./launch/local --config configs/superposition.py                 every panel of the report, about two minutes
    ./launch/local --config configs/superposition.py:tiny            the same in seconds, to see that it works
    ./launch/local --config configs/superposition.py:linear          without the ReLU: never any superposition
    ./launch/local --config configs/superposition.py --sweep phases  one panel; plane, weights, dimensionality, importance

    Other models and data, over sparsity and seeds:

    ./launch/local --config configs/superposition.py:correlated      present together: become orthogonal
    ./launch/local --config configs/superposition.py:anticorrelated  never present together: become antipodal
    ./launch/local --config configs/superposition.py:abs             |x| computed by neurons that several features share

Expect: dense features keep the m most important ones, orthogonal; sparser ones go through antipodal pairs (D = 1/2) to
pentagons (2/5) and beyond, and the phase diagram shows an abrupt change beside the boundary computed from the closed form.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np

from interp_jax.experiments.config import compose, variant

Overrides = dict[str, Any]

TRAINING = {"optimizer.learning_rate": 3e-3, "optimizer.decay": "cosine", "engine.cpu_devices": 0}
ABSOLUTE = {"model.kind": "absolute", "data.signs": "both", "data.importance_decay": 0.9}
VARIANTS = {
    "": {},
    "tiny": {"steps": 30, "batch_size": 128},
    "linear": {"model.kind": "linear"},
    "correlated": {"model.n_features": 4, "data.dependence": "correlated"},
    "anticorrelated": {"model.n_features": 4, "data.dependence": "anticorrelated"},
    "abs": {**ABSOLUTE, "model.n_features": 50, "model.n_hidden": 20},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.superposition", **TRAINING, **variant(arg, VARIANTS))


def sweep_default() -> Iterator[Overrides]:
    """Every panel of the report."""
    for sweep in (sweep_plane, sweep_weights, sweep_dimensionality, sweep_phases):
        yield from sweep()


def sweep_plane() -> Iterator[Overrides]:
    """Five features in the plane (D = 2), from dense to sparse."""
    for sparsity in (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98):
        for seed in range(4):
            yield {
                "model.n_features": 5,
                "model.n_hidden": 2,
                "data.importance_decay": 0.9,
                "data.sparsity": sparsity,
                "seed": seed,
            }


def sweep_weights() -> Iterator[Overrides]:
    """Twenty features of decaying importance in five dimensions, from dense to sparse."""
    for sparsity in (0.0, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999):
        yield {"model.n_features": 20, "model.n_hidden": 5, "data.importance_decay": 0.7, "data.sparsity": sparsity}


def sweep_dimensionality() -> Iterator[Overrides]:
    """120 equal features in twelve dimensions, 1/(1 − S) from 1 to 10: the fractions at which dimensionality sticks."""
    for inverse_density in np.geomspace(1.0, 10.0, 14):
        sparsity = float(1 - 1 / inverse_density)
        yield {"model.n_features": 120, "model.n_hidden": 12, "batch_size": 512, "data.sparsity": sparsity}


def sweep_phases() -> Iterator[Overrides]:
    """Phase diagrams over density and relative importance of the last feature: two features in one dimension, three in two."""
    for n_features, n_hidden, n_seeds in ((2, 1, 2), (3, 2, 4)):
        for density in np.geomspace(0.01, 1.0, 10):
            for relative in np.geomspace(0.1, 10.0, 10):
                for seed in range(n_seeds):
                    yield {
                        "model.n_features": n_features,
                        "model.n_hidden": n_hidden,
                        "data.sparsity": float(1 - density),
                        "data.last_importance": float(relative),
                        "seed": seed,
                    }


def sweep_importance() -> Iterator[Overrides]:
    """The plane again over importance decay and sparsity."""
    for decay in (1.0, 0.9, 0.8, 0.6):
        for sparsity in (0.5, 0.8, 0.9, 0.98):
            yield {
                "model.n_features": 5,
                "model.n_hidden": 2,
                "data.importance_decay": decay,
                "data.sparsity": sparsity,
            }


def sweep_sparsity() -> Iterator[Overrides]:
    """Sparsity and seeds alone, for any variant."""
    for sparsity in (0.0, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99):
        for seed in range(4):
            yield {"data.sparsity": sparsity, "seed": seed}


sweep_correlated = sweep_anticorrelated = sweep_abs = sweep_sparsity  # what those variants run unless told otherwise
