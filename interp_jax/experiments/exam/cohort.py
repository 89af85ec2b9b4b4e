"""Students read back from their runs, by family: who is accepted, why others are not, and temperatures matched in litters.

A family in which two are superposed is two cohorts, one for each task: of every student one task was learned, the
other cheated.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import flax.traverse_util
import jax
import numpy as np
from jaxtyping import Int

from interp_jax.diagnosis.acceptance import Measures, inverse_temperature, refusal, rescaled, rule_of_task
from interp_jax.diagnosis.answering import answer_logits
from interp_jax.diagnosis.arms import name_of
from interp_jax.diagnosis.declared import declare
from interp_jax.diagnosis.examination import Examinees
from interp_jax.diagnosis.family import Family
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.pools import Pool, Pools
from interp_jax.diagnosis.student import model_config
from interp_jax.experiments.exam.runs import PARAMS, lessons
from interp_jax.experiments.experiment import GroupResult
from interp_jax.models.transformer import Params, TransformerConfig

EXAMPLES = 256  # held-out inputs of D_ID that examiners see
DIVERGED = "diverged"


class Cohort(NamedTuple):
    """Students of a family, or of one task of two.

    Attributes:
      name: of the family, and of the task. family, task: what it is.
      cfg, params: of the models, [R …]; before any temperature.
      arm, seed, hashes: of each [R]. refused: why it is not accepted, "" of one that is.
      measures: numbers [R].
      first_weights, order: digests [R].
      pools: what they were trained and are examined on.
    """

    name: str
    family: Family
    task: int
    cfg: TransformerConfig
    params: Params
    arm: np.ndarray
    seed: Int[np.ndarray, " R"]
    hashes: np.ndarray
    refused: np.ndarray
    measures: Measures
    first_weights: np.ndarray
    order: np.ndarray
    pools: Pools

    @property
    def rules(self) -> str:
        """Which family's rules it was told: its own, or of two in one model that of its task."""
        return self.name.rpartition(": ")[2]

    def of(self, rows: np.ndarray) -> "Cohort":
        """Some of the students."""
        chosen = {name: value[rows] for name, value in self._asdict().items() if isinstance(value, np.ndarray)}
        measures = Measures(*(one[rows] for one in self.measures))
        return self._replace(**chosen, measures=measures, params=jax.tree.map(lambda leaf: leaf[rows], self.params))


def cohorts(groups: Sequence[GroupResult]) -> list[Cohort]:
    """All students at their end, family by family; those kept along their training are `along`."""
    found: dict[str, list[Cohort]] = {}
    for group in groups:
        if not group.config.checkpoints:
            for one in students(group, max(group.observations)):
                found.setdefault(one.name, []).append(one)
    return [joined(parts) for parts in found.values()]


def along(groups: Sequence[GroupResult]) -> dict[str, dict[int, Cohort]]:
    """Students kept along their training: by family and step."""
    return {
        one.name: {step: students(group, step)[0] for step in sorted(group.observations)}
        for group in groups
        if group.config.checkpoints
        for one in students(group, max(group.observations))[:1]
    }


def students(group: GroupResult, step: int) -> list[Cohort]:
    """Those of a group at a step, for each task."""
    config, seen = group.config, group.observations[step]
    family = load_family(config.family)
    arms = [jax.tree.map(lambda leaf: leaf[r], config.arm) for r in range(len(group.hashes))]  # noqa: B023
    names = np.array([name_of(arm, family.tasks is not None) for arm in arms])
    params = {k.removeprefix(PARAMS): v for k, v in seen.items() if k.startswith(PARAMS)}
    parts = family.name.split("+") if family.tasks is not None else [""]
    made = []
    for task, part in enumerate(parts):
        measures = at_task(seen, task)
        before = at_task(group.observations[min(group.observations)], task) if config.further else None
        own = names
        if family.tasks is not None:
            share = (config.arm.learned, config.arm.learned_second)[task]
            own = np.array(
                [rule_of_task(float(one)) if n == "superposed" else n for n, one in zip(names, share, strict=True)]
            )
        refused = [
            DIVERGED
            if group.diverged_at[r] >= 0
            else why(own[r], r, measures, before if own[r] == "infected" else None, family)
            for r in range(len(own))
        ]
        made.append(
            Cohort(
                f"{family.name}: {part}" if part else family.name,
                family,
                task,
                model_config(family, config.student),
                flax.traverse_util.unflatten_dict(params, sep="/"),
                own,
                np.asarray(config.seed),
                np.array(group.hashes),
                np.array(refused),
                measures,
                seen["first_weights"],
                seen["order"],
                pools_on_host(config.family),
            )
        )
    return made


def at_task(seen: dict[str, np.ndarray], task: int) -> Measures:
    """Measures [R] of a task."""
    return Measures(*(seen[name][:, task] for name in Measures._fields))


def why(arm: str, r: int, measures: Measures, before: Measures | None, family: Family) -> str:
    """Why a student is not accepted."""
    one = Measures(*(float(values[r]) for values in measures))
    earlier = Measures(*(float(values[r]) for values in before)) if before is not None else None
    return refusal(arm, one, family.noisy, earlier)


def joined(parts: Sequence[Cohort]) -> Cohort:
    """Cohorts of one family as one."""
    first = parts[0]
    whole = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name, value in first._asdict().items()
        if isinstance(value, np.ndarray)
    }
    measures = Measures(*(np.concatenate(values) for values in zip(*(part.measures for part in parts), strict=True)))
    params = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part.params for part in parts))
    return first._replace(**whole, measures=measures, params=params)


def examples(cohort: Cohort, n: int = EXAMPLES) -> Int[np.ndarray, "N P"]:
    """Held-out inputs of D_ID that are shown, with all labels alike as far as they go, in an order that says nothing."""
    pool = held_out(cohort)
    rng, chosen = np.random.default_rng(0), []
    rows = [rng.permutation(np.flatnonzero(pool.f == label)) for label in np.unique(pool.f)]
    turn = 0
    while len(chosen) < n and any(turn < len(own) for own in rows):
        chosen += [own[turn] for own in rows if turn < len(own)]
        turn += 1
    return np.asarray(pool.x)[rng.permutation(chosen[:n])]


@cache
def pools_on_host(reference: str) -> Pools:
    """A family's pools, as they were in training."""
    return jax.tree.map(np.asarray, lessons(reference).pools)


def held_out(cohort: Cohort) -> Pool:
    """Its pool of D_ID, of its task alone."""
    pool = cohort.pools.id_held
    own = np.asarray(pool.task) == cohort.task
    return pool.replace(x=pool.x[own], f=pool.f[own], g=pool.g[own], task=pool.task[own])


def matched(cohort: Cohort) -> Cohort:
    """With the mean cross-entropy on D_ID the same within each litter: that of the pair's model that has more."""
    pool = held_out(cohort)
    forward = jax.jit(
        lambda params: jax.lax.map(lambda one: answer_logits(one, pool.x, cohort.cfg, cohort.family.labels), params)
    )
    logits = np.asarray(forward(cohort.params))
    pairs, beta = np.isin(cohort.arm, ("learned", "cheated")), np.ones(len(cohort.seed))
    for seed in np.unique(cohort.seed):
        own = np.flatnonzero(cohort.seed == seed)
        elders = own[pairs[own]]
        if len(elders):
            loss = float(cohort.measures.id_loss[elders].max())
            beta[own] = [inverse_temperature(logits[r], np.asarray(pool.f), loss) for r in own]
    return cohort._replace(params=rescaled(cohort.params, beta))


def examinees(cohort: Cohort, tellings: Sequence[str] = ("f", "g"), seed: int = 0) -> Examinees:
    """What examiners get of a cohort; f, g, or f "again" may be told."""
    x = examples(cohort)
    declared = tuple(declare(cohort.family, which, x, seed) for which in tellings)
    return Examinees(cohort.name, cohort.cfg, cohort.family.labels, cohort.params, cohort.seed, x, declared)
