"""What searches found of what is true: accuracy by the kind of place, and the share of the true plane that was found.

    excess             = accuracy - 1 / (d + 1)                     0: chance, exactly so wherever the variable is not held
    share of the plane = Σ cos² of the principal angles / d         1: all of it is in the subspace; k / D: as in a random one

A run is one relay with pairs of its own; what is found at its places and by its seeds is one sample.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from interp_jax.experiments.alignment.config import Config
from interp_jax.experiments.experiment import GroupResult
from interp_jax.models.relay_circuit import AHEAD, BEHIND, HELD, kind_of_place

KINDS = (HELD, AHEAD, BEHIND)
STATED = ("seed", "dimensions", "k", "bystander", "margin")  # of a run's config


class Population(NamedTuple):
    """Runs of equal static fields.

    Attributes:
      config: those fields.
      stated: {name: [R]} of `STATED`.
      kinds: [M], the kind of each place.
      seen: what `runs.py` lists, each with a leading R axis.
    """

    config: Config
    stated: dict[str, np.ndarray]
    kinds: np.ndarray
    seen: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.stated["seed"])

    def where(self, mask: Bool[np.ndarray, " R"]) -> "Population":
        """Some of the runs."""
        stated, seen = ({name: x[mask] for name, x in part.items()} for part in (self.stated, self.seen))
        return Population(self.config, stated, self.kinds, seen)

    def of_dimensions(self, dimensions: int) -> "Population":
        """Those whose variable has so many."""
        return self.where(self.stated["dimensions"] == dimensions)


def populations(groups: Sequence[GroupResult]) -> list[Population]:
    """One of each group."""
    found = []
    for group in groups:
        seen = group.observations[max(group.observations)]
        stated = {name: np.asarray(getattr(group.config, name)) for name in STATED}
        places = zip(seen["layer"][0], seen["position"][0], strict=True)
        kinds = np.array([kind_of_place(int(layer), int(position)) for layer, position in places])
        found.append(Population(group.config, stated, kinds, seen))
    return found


def plain(population: Population) -> Population:
    """Runs of relays without a copy, in which as many dimensions are searched for as there are."""
    asked, true = population.stated["k"], population.stated["dimensions"]
    return population.where((population.stated["bystander"] == 0) & ((asked == 0) | (asked == true)))


def chance(population: Population) -> Float[np.ndarray, " R"]:
    """Accuracy of whoever does not know the source's class."""
    return 1 / (1 + population.stated["dimensions"])


def accuracy(population: Population, name: str, kind: str) -> Float[np.ndarray, " R"]:
    """Of an evaluation of `runs.EVALUATIONS`, at all places of a kind."""
    return population.seen[name][:, population.kinds == kind].mean((1, 2))


def excess(population: Population, name: str, kind: str) -> Float[np.ndarray, " R"]:
    """How far that is above chance."""
    return accuracy(population, name, kind) - chance(population)


def scaled(population: Population, name: str, kind: str) -> Float[np.ndarray, " R"]:
    """From chance to 1."""
    return excess(population, name, kind) / (1 - chance(population))


def share(population: Population, name: str = "shared") -> Float[np.ndarray, " R"]:
    """Of the plane, where it holds the variable; likewise of the copy, or in the random control."""
    held = population.seen[name][:, population.kinds == HELD].mean((1, 2))
    return held / population.stated["dimensions"]


def dimensions(population: Population, kind: str) -> Int[np.ndarray, "R M S"]:
    """Of the subspaces that were found at places of a kind."""
    return population.seen["dimensions"][:, population.kinds == kind]


def right_of_one_each(population: Population, name: str, kind: str) -> Int[np.ndarray, " R"]:
    """Held-out pairs that one search of each run gets right, at one place in turn, [R]: searches of a run share their pairs."""
    each = population.seen[name][:, population.kinds == kind].reshape(len(population), -1)
    runs = np.arange(len(population))
    return np.rint(each[runs, runs % each.shape[1]] * population.config.held_out).astype(int)
