"""A group of runs as the report sees it: effects in one direction, as shares of the whole, over the pairs of all seeds.

    denoising: restored = (patched - corrupted) / (clean - corrupted)          1: the node alone is enough
    noising:   lost     = (clean - patched) / (clean - corrupted)              1: nothing is left without the node

Means over pairs are divided, not pairs. So 0 is a node that does nothing and 1 one that does everything, in both directions,
whether more of the metric is better or less of it.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from interp_jax.anatomy.heads import HeadScores
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.patching.causes import METHODS
from interp_jax.experiments.patching.config import Config
from interp_jax.experiments.patching.measure import CHOICES, unit_of
from interp_jax.experiments.patching.missed import Missed
from interp_jax.experiments.subjects.kinds import kind_of
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results.tables import interval

DONE = {DENOISING: "restored", NOISING: "lost"}
SIZES = "star."  # have no sign
ROUTES = "path_"
ROUNDING = 64 * float(np.finfo(np.float32).eps)  # of the metric's size


class View(NamedTuple):
    """Runs of one model and task.

    Attributes:
      config: of the first run.
      about: of the first run: name, facts, positions, examples.
      clean, corrupted: the metric.
      senders: the heads and MLPs whose paths were patched in all runs; heads as l H + h, then the MLPs, as in `routes.py`.
      effects: by direction and name: what patching restores, or loses, in units of the metric.
      kinds: kinds of head, [R L H] each.
      missed: by direction, what an estimate may have missed, of each run; empty where that was not asked.
    """

    config: Config
    about: dict[str, Any]
    clean: Float[np.ndarray, " B"]
    corrupted: Float[np.ndarray, " B"]
    senders: Int[np.ndarray, " S"]
    effects: dict[str, dict[str, Float[np.ndarray, "*cells B"]]]
    kinds: HeadScores
    missed: Mapping[str, tuple[Missed, ...]] = {}

    @property
    def total(self) -> float:
        """The whole effect."""
        return float(self.clean.mean() - self.corrupted.mean())

    @property
    def sense(self) -> int:
        """1 where more of the metric is better, -1 where less is."""
        return CHOICES[self.config.metric].sense

    @property
    def better_by(self) -> Float[np.ndarray, " B"]:
        """By how much the clean runs do better."""
        return self.sense * (self.clean - self.corrupted)

    @property
    def is_clear(self) -> bool:
        """Whether the clean runs do better than the corrupted ones beyond chance: the 95% interval lies above 0."""
        return bool(interval(self.better_by).low > 0)

    @property
    def n_layers(self) -> int:
        """Layers L."""
        return self.kinds.previous.shape[1]

    @property
    def n_heads(self) -> int:
        """Heads of a layer, H."""
        return self.kinds.previous.shape[2]

    @property
    def unit(self) -> str:
        """What is measured, for people."""
        return unit_of(self.config.metric)

    def has(self, name: str, direction: str = DENOISING) -> bool:
        """Whether the runs have effects of that name."""
        return name in self.effects[direction]

    def shares(self, direction: str, name: str) -> Float[np.ndarray, "*cells"]:
        """Mean effects as shares of the whole."""
        return self.effects[direction][name].mean(-1) / self.total

    def is_head(self, node: int) -> bool:
        """Whether a number is that of a head, and not of an MLP."""
        return node < self.n_layers * self.n_heads

    def layer_of(self, node: int) -> int:
        """The layer of a head or MLP."""
        return node // self.n_heads if self.is_head(node) else node - self.n_layers * self.n_heads

    def node_name(self, node: int) -> str:
        """Layer and head of a head, "3.7"; of the rest, "MLP 3"."""
        layer = self.layer_of(node)
        return f"{layer}.{node % self.n_heads}" if self.is_head(node) else f"MLP {layer}"

    def described(self, node: int) -> str:
        """A head or MLP with what it is, where that is known: "0.1 (previous)"."""
        kind = kind_of(self.kinds, node) if self.is_head(node) else ""
        return self.node_name(node) + (f" ({kind})" if kind else "")


def view_of(group: GroupResult) -> View:
    """A group as the report sees it: the pairs of all seeds as one sample; those of a file are the same for all."""
    config = jax.tree.map(lambda leaf: leaf[0].item(), group.config)
    seen = dict(list(group.observations.values())[-1])
    kinds = HeadScores(*(seen[kind] for kind in HeadScores._fields))
    if config.task.file:
        seen = {name: values[:1] for name, values in seen.items()}
    senders = np.array([s for s in seen["senders"][0] if (seen["senders"] == s).any(1).all()], int)
    missed = {
        d: tuple(Missed(*run) for run in seen.pop(f"{d}.missed").tolist()) for d in DIRECTIONS if f"{d}.missed" in seen
    }
    effects: dict[str, dict[str, np.ndarray]] = {direction: {} for direction in DIRECTIONS}
    for name, values in seen.items():
        direction, _, what = name.partition(".")
        if direction in effects:
            some = pick(values, seen["senders"], senders) if what.startswith(ROUTES) else values
            effects[direction][what] = pooled(effect_of(direction, what, some, seen))
    about = json.loads(str(seen["about"][0]))
    return View(config, about, pooled(seen["clean"]), pooled(seen["corrupted"]), senders, effects, kinds, missed)


def effect_of(
    direction: str, what: str, values: Float[np.ndarray, "R *cells B"], seen: dict[str, np.ndarray]
) -> Float[np.ndarray, "R *cells B"]:
    """What is restored or lost, in units of the metric; rounding, which may have one sign in all pairs, counts as nothing."""
    sign = 1 if direction == DENOISING or what.startswith(SIZES) else -1
    if what.partition(".")[0] in METHODS:
        return sign * values
    base = seen["corrupted" if direction == DENOISING else "clean"]
    effects = sign * (values - base.reshape(len(base), *(1,) * (values.ndim - 2), -1))
    size = max(float(np.abs(seen[run]).max()) for run in ("clean", "corrupted"))
    return np.where(np.abs(effects) > ROUNDING * size, effects, np.float32(0))


def pick(
    values: Float[np.ndarray, "R S ..."], there: Int[np.ndarray, "R S"], wanted: Int[np.ndarray, " W"]
) -> Float[np.ndarray, "R W ..."]:
    """The rows of the wanted senders, of every run."""
    return np.stack([of_run[[list(who).index(s) for s in wanted]] for of_run, who in zip(values, there, strict=True)])


def pooled(values: Float[np.ndarray, "R *cells B"]) -> Float[np.ndarray, "*cells N"]:
    """Examples of all runs side by side."""
    return np.concatenate(list(values), axis=-1)
