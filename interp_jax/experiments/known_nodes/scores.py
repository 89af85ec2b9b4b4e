"""What was found of what is true: shares of the total effect, precision and recall against a threshold, false positives.

    share = mean effect / (mean metric of the source - of the base)        called: |share| ≥ threshold

    precision = true nodes among those called        recall = called nodes among the true ones

A node is true if the exact effect of patching it, in this direction, is not 0 in the limit of sharp patterns. Where the total
effect is 0 there are no shares: see `false_positives.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_nodes.runs import SIZES
from interp_jax.patching.effects.intervals import bootstrap_interval
from interp_jax.patching.effects.mediation import against_random
from interp_jax.patching.effects.significance import SignFlip, sign_flip_test
from interp_jax.patching.prompts import DENOISING

THRESHOLD = 0.1  # of the total effect
LEVEL = 0.05


class Population(NamedTuple):
    """Runs of one circuit with arrays of one shape.

    Attributes:
      circuit: its name.
      corruption, sharpness, leak: of each run, [R].
      seen: what `runs.py` lists, each with a leading R axis.
    """

    circuit: str
    corruption: np.ndarray
    sharpness: np.ndarray
    leak: np.ndarray
    seen: dict[str, np.ndarray]

    def where(self, mask: Bool[np.ndarray, " R"]) -> "Population":
        """Some of the runs."""
        seen = {name: values[mask] for name, values in self.seen.items()}
        return Population(self.circuit, self.corruption[mask], self.sharpness[mask], self.leak[mask], seen)

    def __len__(self) -> int:
        return len(self.corruption)

    def has(self, name: str) -> bool:
        """Whether its runs have that array."""
        return f"{DENOISING}.{name}" in self.seen


def populations(groups: Sequence[GroupResult]) -> list[Population]:
    """The runs of all groups, those of equal circuit and shapes together."""
    alike: dict[tuple, list[Population]] = {}
    for group in groups:
        seen = group.observations[max(group.observations)]
        config, n = group.config, len(group.hashes)
        one = Population(
            config.circuit,
            np.array([config.corrupted_by] * n),
            np.asarray(config.sharpness),
            np.asarray(config.leak),
            seen,
        )
        key = config.circuit, tuple(sorted((name, values.shape[1:]) for name, values in seen.items()))
        alike.setdefault(key, []).append(one)
    return [_together(parts) for parts in alike.values()]


def _together(parts: Sequence[Population]) -> Population:
    arrays = [np.concatenate(values) for values in zip(*(part[1:4] for part in parts), strict=True)]
    seen = {name: np.concatenate([part.seen[name] for part in parts]) for name in parts[0].seen}
    return Population(parts[0].circuit, *arrays, seen)


def shares(population: Population, direction: str, name: str) -> Float[np.ndarray, "R *nodes"]:
    """Of a method's effects, or of edges."""
    seen = population.seen
    total = (seen["clean"] - seen["corrupted"]).astype(np.float64).mean(1) * (1 if direction == DENOISING else -1)
    effects = seen[f"{direction}.{name}"].mean(-1, dtype=np.float64)
    total = np.abs(total) if name in SIZES else total
    return effects / total.reshape(-1, *[1] * (effects.ndim - 1))


def truth(population: Population, direction: str, edges: bool = False) -> Float[np.ndarray, "R *nodes"]:
    """The shares that patching must find."""
    return population.seen[f"{direction}.edges_truth" if edges else f"{direction}.truth"]


class Found(NamedTuple):
    """At each of T thresholds; precision is NaN where nothing is called."""

    precision: Float[np.ndarray, " T"]
    recall: Float[np.ndarray, " T"]


def found(
    estimate: Float[np.ndarray, "..."],
    true: Float[np.ndarray, "..."],
    thresholds: Sequence[float] | Float[np.ndarray, " T"] = (THRESHOLD,),
) -> Found:
    """Precision and recall of shares, all nodes of all runs together."""
    called = np.abs(estimate).ravel() >= np.asarray(thresholds)[:, None]
    is_true = true.ravel() != 0
    hits, calls = (called & is_true).sum(1), called.sum(1)
    return Found(np.where(calls > 0, hits / np.maximum(calls, 1), np.nan), hits / is_true.sum())


# --------------------------------------------------------------------------------- without any effect


def signs(population: Population, direction: str, method: str) -> SignFlip:
    """Sign-flip tests [R C] of every node, those of a run being one family."""
    return SignFlip(*map(np.asarray, _signs(_cells(population, direction, method))))


@jax.jit
def _signs(effects: Float[Array, "R C B"]) -> SignFlip:
    return jax.lax.map(sign_flip_test, effects)


def stands_out(population: Population, direction: str, method: str) -> Bool[np.ndarray, "R C"]:
    """Whether at most 5% of random nodes have a mean effect as large; of sizes, a mean size."""
    effects, random = _cells(population, direction, method), population.seen[f"{direction}.random"]
    return np.asarray(_share(effects, np.abs(random) if method in SIZES else random)) <= LEVEL


@jax.jit
@jax.vmap
def _share(effects: Float[Array, "C B"], random: Float[Array, "M B"]) -> Float[Array, " C"]:
    return against_random(effects, random).share


def changes(population: Population, direction: str, method: str) -> Bool[np.ndarray, " C"]:
    """Nodes for which a method gives any effect at all: RelP, say, gives queries none."""
    return (_cells(population, direction, method) != 0).any((0, 2))


def covered(population: Population, direction: str) -> Bool[np.ndarray, "R C"]:
    """Whether the 95% interval of a node's mean effect, exactly patched, holds the true mean, 0."""
    interval = bootstrap_interval(jnp.asarray(_cells(population, direction, "exact")), 0)
    return np.asarray((interval.low <= 0) & (interval.high >= 0))


def _cells(population: Population, direction: str, method: str) -> Float[np.ndarray, "R C B"]:
    effects = population.seen[f"{direction}.{method}"]
    return effects.reshape(len(effects), -1, effects.shape[-1])
