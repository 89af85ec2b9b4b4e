"""What was found of each variable, as scores with intervals, and the claims that are made of it.

    above noise       labels - the same in another order, at the place where the model is read best
    above the token   that place - the embeddings: what the token alone does not tell
    learned           that place - the untrained twin, at the twin's best place
    selective         labels - control task, at that place: what is not a probe's own memory for tokens
    used              loss by its erasure - loss by erasing as many random directions, at that place

Each has the p of a test: see `claims.py`. Whether a variable is used is looked at in up to three ways, and one of them is to
hold with a p that is so much smaller.
"""

import json
from typing import Any, NamedTuple

import jax
import numpy as np

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.probing.claims import Claim, above_another, above_orders
from interp_jax.experiments.probing.config import Config
from interp_jax.experiments.probing.erasing import ALL, TURNS
from interp_jax.experiments.probing.models import UNTRAINED
from interp_jax.experiments.probing.reading import CONTROLS
from interp_jax.experiments.probing.tallies import Score, at, balanced_accuracy, difference, mean_of
from interp_jax.probes.controls import DIRECTION, SHUFFLED, TRUE, TYPES
from interp_jax.probes.reliance import outlier_p, over_both

LEVEL_OF_INTERVALS = 0.95


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

    @property
    def has_control_task(self) -> bool:
        """Whether labels of tokens can tell anything: a probe has those of so few kinds as it has numbers by heart."""
        return self.about["tokens"] > self.about["width"] + 1

    def is_class(self, v: int) -> bool:
        """Whether a variable is one of some values, and no number."""
        return bool(self.about["variables"][self.variables[v]][0])

    def chance(self, v: int) -> float:
        """What a constant scores: 1 in the number of classes, or R² 0."""
        return 1 / len(self.about["variables"][self.variables[v]][0]) if self.is_class(v) else 0.0


class Finding(NamedTuple):
    """Of one variable; None where it was not measured.

    Attributes:
      place: at which the model itself is read best.
      accuracy, shuffled, types, direction, token, twin: balanced accuracies, of a number R², see the module; those of the
        embeddings and of the twin's best place last.
      above_noise, above_token, learned, selectivity: differences, each with its p.
      used, used_at_turns: reliance, in nats per token, and per token at which the variable changes.
      scrubbed: reliance where it is erased at every layer.
      elsewhere: what is read there of examples of another distribution, by the fits to all others.
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
    above_noise: Claim
    above_token: Claim
    learned: Claim
    selectivity: Claim | None
    used: Claim | None
    used_at_turns: Claim | None
    scrubbed: Claim | None
    elsewhere: Score | None


def view_of(group: GroupResult, member: int = 0) -> View:
    """A run of a group."""
    config = jax.tree.map(lambda leaf: leaf[member].item(), group.config)
    seen = {name: value[member] for name, value in list(group.observations.values())[-1].items()}
    about = json.loads(str(seen["about"]))
    hits, totals = (seen[name][..., : len(about["bins"]), :] for name in ("hits", "totals"))
    there = totals.sum((0, 1, 2, 3, 5, 6)) > 0  # of groups
    hits, totals = hits[..., there, :, :], totals[..., there, :, :]
    of_model = (hits[-1, :, :, CONTROLS.index(TRUE)], totals[-1, :, :, CONTROLS.index(TRUE)])
    return View(
        config=config,
        about=about,
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
    types = of(TYPES) if view.has_control_task else None
    values, about = view.about["variables"][name]
    above = lambda control: Claim(difference(accuracy, of(control)), p_above_orders(view, v, control))
    return Finding(
        name, values, about, view.chance(v), s, accuracy, of(SHUFFLED), types, of(DIRECTION), token, twin,
        above(SHUFFLED), Claim(difference(accuracy, token), p_above(view, v, (last, s), (last, 0))),
        above_twin(view, v, last), types and above(TYPES), reliance(view, s, v, ALL), reliance(view, s, v, TURNS),
        reliance_of_all(view, v, ALL), outside(view, s, v),
    )  # fmt: skip


def outside(view: View, s: int, v: int) -> Score | None:
    """What the model's place has of the tokens elsewhere, over the groups that have any."""
    of = (view.seen[name][-1, s, v, CONTROLS.index(TRUE), :, len(view.about["bins"]) :] for name in ("hits", "totals"))
    hits, totals = (x.sum(-2) for x in of)
    there = totals.sum(-1) > 0
    return balanced_accuracy(hits[there], totals[there]) if there.any() else None


def above_twin(view: View, v: int, m: int) -> Claim:
    """What one of the models has above the untrained twin, at the place where the model itself is read best."""
    untrained = view.steps.index(UNTRAINED)
    other = int(at(view.accuracy, untrained, slice(None), v, CONTROLS.index(TRUE)).mean.argmax())
    own = at(view.accuracy, m, view.best[v], v, CONTROLS.index(TRUE))
    return Claim(difference(own, twin_of(view, v)), p_above(view, v, (m, view.best[v]), (untrained, other)))


def p_above(view: View, v: int, one: tuple[int, int], other: tuple[int, int]) -> float:
    """P of a model's place beside another's; see `claims.py`."""
    drawn = lambda m, s: view.seen["drawn"][m, :, s, v]
    return above_another(drawn(*one), drawn(*other), view.seen["there"][v], view.seen["fold"])


def p_above_orders(view: View, v: int, control: str) -> float:
    """P of the best layer of the model itself beside a control of which each draw has a best layer of its own."""
    figures = view.seen["figures"][:, 1:, v]
    return above_orders(figures[0, :, CONTROLS.index(TRUE)], figures[:, :, CONTROLS.index(control)])


def twin_of(view: View, v: int) -> Score:
    """What the untrained twin has, at the place where it is read best."""
    of = at(view.accuracy, view.steps.index(UNTRAINED), slice(None), v, CONTROLS.index(TRUE))
    return at(of, int(of.mean.argmax()))


def reliance(view: View, s: int, v: int, which: int) -> Claim | None:
    """What the loss rises by with a variable above random directions, at a place; None where it was not measured."""
    if "use.place" not in view.seen:
        return None
    (u,) = np.flatnonzero((view.seen["use.place"] == s) & (view.seen["use.variable"] == v))
    return above_random(view.seen["use.sums"][u, :, which], view.seen["use.counts"][v, which])


def reliance_of_all(view: View, v: int, which: int) -> Claim | None:
    """What the loss rises by with a variable scrubbed from all layers, above random directions."""
    if "use.scrubbed" not in view.seen:
        return None
    return above_random(view.seen["use.scrubbed"][v, :, which], view.seen["use.counts"][v, which])


def reliance_along(view: View, v: int, which: int) -> Claim | None:
    """The same of every trained model, at the place where the last is read best."""
    if "use.along" not in view.seen:
        return None
    return above_random(view.seen["use.along"][:, v, :, which], view.seen["use.counts"][v, which])


def above_random(sums: np.ndarray, counts: np.ndarray) -> Claim | None:
    """[… 1+R G] as the effect less that of the control, which varies with groups and with the draws; None of no tokens.

    Its p is that of one more random subspace that costs as much.
    """
    if not counts.sum():
        return None
    excess = mean_of(sums[..., 0, :] - sums[..., 1:, :].mean(-2), counts).of_group
    draws = sums[..., 1:, :].sum(-1) / counts.sum()
    cells, n_groups = excess.shape[:-1], excess.shape[-1]
    if n_groups < 2:
        return Claim(mean_of(excess, np.ones(1)), np.ones(cells))
    by_group, by_draw = excess.reshape(-1, n_groups), draws.reshape(-1, draws.shape[-1]).T
    score = Score(*(part.reshape(cells) for part in over_both(by_group, by_draw, LEVEL_OF_INTERVALS)), excess)
    return Claim(score, outlier_p(by_group, by_draw).reshape(cells))
