"""A group of toy models, as its report speaks of it: its name, its weights, its settings and their best seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from interp_jax.experiments.experiment import GroupResult


class Cell(NamedTuple):
    """One setting: the index of its best seed in the group, and of all its seeds."""

    best: int
    seeds: np.ndarray


def name(group: GroupResult) -> str:
    """A group in words."""
    model, data = group.config.model, group.config.data
    kind = {"relu": "", "linear": ", linear", "absolute": ", absolute value"}[model.kind]
    dependence = "" if data.dependence == "independent" else f", {data.dependence} in sets of {data.set_size}"
    dimensions = "one dimension" if model.n_hidden == 1 else f"{model.n_hidden} dimensions"
    return f"{model.n_features} features in {dimensions}{kind}{dependence}"


def final(group: GroupResult) -> dict[str, np.ndarray]:
    """The last observation."""
    return group.observations[max(group.observations)]


def directions(group: GroupResult) -> np.ndarray:
    """Directions of the features, [R, S, D]: rows of the tied W, or of what the neurons read."""
    seen = final(group)
    return seen["W"] if "W" in seen else seen["W_in"]


def cells(group: GroupResult) -> list[Cell]:
    """The settings of a group, all hypers but the seed, by sparsity and then by importance."""
    data = group.config.data
    keys = np.stack([data.sparsity, data.importance_decay, data.last_importance], 1)
    loss = np.where(group.diverged_at < 0, final(group)["loss"], np.inf)
    at = [np.flatnonzero((keys == setting).all(1)) for setting in np.unique(keys, axis=0)]
    return [Cell(int(seeds[np.argmin(loss[seeds])]), seeds) for seeds in at]


def titles(group: GroupResult, chosen: Sequence[Cell]) -> list[str]:
    """A title per cell: sparsity, and importance decay where that is swept too."""
    data = group.config.data
    decay = [f", decay {d:.2g}" if len(set(data.importance_decay)) > 1 else "" for d in data.importance_decay]
    return [f"S = {data.sparsity[c.best]:.3g}{decay[c.best]}" for c in chosen]
