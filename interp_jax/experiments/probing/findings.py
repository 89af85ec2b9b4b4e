"""What was found of each variable, as scores with intervals, and what survives its controls.

A claim survives where the 95% interval of a difference lies above 0, over groups:

    above noise       labels - shuffled labels, at the place where the model is read best
    above the token   that place - the embeddings: what the token alone does not tell
    learned           that place - the untrained twin, at the twin's best place
    selective         labels - control task, at that place: what is not a probe's own memory for tokens
    used              loss by its erasure - loss by erasing as many random directions, at that place
"""

import json
from typing import Any, NamedTuple

import jax
import numpy as np

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.probing.config import Config
from interp_jax.experiments.probing.models import UNTRAINED
from interp_jax.experiments.probing.reading import CONTROLS
from interp_jax.experiments.probing.tallies import Score, at, balanced_accuracy, difference, mean_of
from interp_jax.probes.controls import DIRECTION, SHUFFLED, TRUE, TYPES
from interp_jax.probes.reliance import over_both

ALL, TURNS = 0, 1  # which predicted tokens: every one, and those at which the variable changes


class View(NamedTuple):
    """One run as the report sees it.

    Attributes:
      config: of the run.
      about: names; see `runs.py`.
      steps: of models, the twin first.
      accuracy: [M S V T], over all positions.
      by_bin: [S V K], of the model itself.
      best: [V].
      seen: all that was observed.
    """

    config: Config
    about: dict[str, Any]
    steps: list[int]
    accuracy: Score
    by_bin: Score
    best: list[int]
    seen: dict[str, np.ndarray]

    @property
    def variables(self) -> list[str]:
        """Their names."""
        return list(self.about["variables"])

    @property
    def places(self) -> list[str]:
        """Their names."""
        return self.about["places"]

    @property
    def trained(self) -> list[int]:
        """Steps of the models along training."""
        return [step for step in self.steps if step != UNTRAINED]

    def chance(self, v: int) -> float:
        """What a constant scores."""
        return 1 / len(self.about["variables"][self.variables[v]][0])


class Finding(NamedTuple):
    """Of one variable; None where it was not measured.

    Attributes:
      place: at which the model itself is read best.
      accuracy, shuffled, types, direction, token, twin: balanced accuracies, see the module; those of the embeddings and of the
        twin's best place last.
      above_noise, above_token, learned, selectivity: differences.
      used, used_at_turns: reliance, in nats per token, and per token at which the variable changes.
    """

    name: str
    values: list[str]
    about: str
    chance: float
    place: int
    accuracy: Score
    shuffled: Score
    types: Score | None
    direction: Score
    token: Score
    twin: Score
    above_noise: Score
    above_token: Score
    learned: Score
    selectivity: Score | None
    used: Score | None
    used_at_turns: Score | None


def view_of(group: GroupResult, member: int = 0) -> View:
    """A run of a group."""
    config = jax.tree.map(lambda leaf: leaf[member].item(), group.config)
    seen = {name: value[member] for name, value in list(group.observations.values())[-1].items()}
    hits, totals = seen["hits"], seen["totals"]
    of_model = (hits[-1, :, :, CONTROLS.index(TRUE)], totals[-1, :, :, CONTROLS.index(TRUE)])
    return View(
        config=config,
        about=json.loads(str(seen["about"])),
        steps=seen["steps"].tolist(),
        accuracy=balanced_accuracy(hits.sum(-2), totals.sum(-2)),
        by_bin=balanced_accuracy(*(np.moveaxis(x, -2, 2) for x in of_model)),
        best=seen["best"].tolist(),
        seen=seen,
    )


def finding(view: View, v: int) -> Finding:
    """What was found of a variable."""
    name, s, last = view.variables[v], view.best[v], len(view.steps) - 1
    of = lambda control, m=last, place=s: at(view.accuracy, m, place, v, CONTROLS.index(control))
    accuracy, token, twin = of(TRUE), of(TRUE, last, 0), twin_of(view, v)
    types = of(TYPES) if view.about["tokens"] > 1 else None  # one token has no control task
    values, about = view.about["variables"][name]
    return Finding(
        name, values, about, view.chance(v), s, accuracy, of(SHUFFLED), types, of(DIRECTION), token, twin,
        difference(accuracy, of(SHUFFLED)), difference(accuracy, token), difference(accuracy, twin),
        types and difference(accuracy, types), reliance(view, s, v, ALL), reliance(view, s, v, TURNS),
    )  # fmt: skip


def twin_of(view: View, v: int) -> Score:
    """What the untrained twin has, at the place where it is read best."""
    of = at(view.accuracy, view.steps.index(UNTRAINED), slice(None), v, CONTROLS.index(TRUE))
    return at(of, int(of.mean.argmax()))


def reliance(view: View, s: int, v: int, which: int) -> Score | None:
    """What the loss rises by with a variable above random directions, at a place; None where it was not measured."""
    if "use.place" not in view.seen:
        return None
    (u,) = np.flatnonzero((view.seen["use.place"] == s) & (view.seen["use.variable"] == v))
    return above_random(view.seen["use.sums"][u, :, which], view.seen["use.counts"][v, which])


def reliance_along(view: View, v: int, which: int) -> Score | None:
    """The same of every trained model, at the place where the last is read best."""
    if "use.along" not in view.seen:
        return None
    return above_random(view.seen["use.along"][:, v, :, which], view.seen["use.counts"][v, which])


def above_random(sums: np.ndarray, counts: np.ndarray) -> Score | None:
    """[… 1+R G] as the effect less that of the control, which varies with groups and with the draws; None of no tokens."""
    if not counts.sum():
        return None
    excess = mean_of(sums[..., 0, :] - sums[..., 1:, :].mean(-2), counts).of_group
    draws = sums[..., 1:, :].sum(-1) / counts.sum()
    cells, n_groups = excess.shape[:-1], excess.shape[-1]
    if n_groups < 2:
        return mean_of(excess, np.ones(1))
    found = over_both(excess.reshape(-1, n_groups), draws.reshape(-1, draws.shape[-1]).T, 0.95)
    return Score(*(part.reshape(cells) for part in found), excess)


def survives(score: Score | None) -> bool:
    """Whether its interval lies above 0."""
    return score is not None and float(score.low) > 0
