"""Pairs kept along their training: from which step on a diagnoser tells them apart, and from which the cheat cheats.

right       share of a pair's two entries, f declared and g declared, in which the one that becomes the cheat scores higher
from        the first step from which on that is 1 at all later ones
planted     the first step from which on the cheat answers .99 of held-out conflicts by g
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from interp_jax.diagnosis.acceptance import OWN
from interp_jax.diagnosis.detection import Scored, paired_accuracy
from interp_jax.diagnosis.examination import Diagnoser, examine
from interp_jax.experiments.exam.cohort import Cohort, joined
from interp_jax.experiments.exam.scores import kept, patients, place
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.plot_style import Axes
from interp_jax.results.plots import Line, lines
from interp_jax.results.tables import Table

SHOWN = 5  # diagnosers in the figure
NEVER = -1


class Course(NamedTuple):
    """Of a diagnoser and a family: at steps [T], whether it is right of pairs [T N], and the step each was planted [N]."""

    steps: Int[np.ndarray, " T"]
    right: Float[np.ndarray, "T N"]
    planted: Int[np.ndarray, " N"]


def since(holds: np.ndarray, steps: np.ndarray) -> Int[np.ndarray, " N"]:
    """For each column the first step from which on it holds, `NEVER` where it does not at the last."""
    later = np.logical_and.accumulate(holds[::-1], axis=0)[::-1]
    return np.where(later[-1], steps[later.argmax(0)], NEVER)


def courses(
    along: Mapping[str, Mapping[int, Cohort]], diagnosers: Sequence[Diagnoser], directory: Path
) -> dict[str, dict[str, Course]]:
    """{diagnoser: {family: course}}, of those that fit nothing; kept as they are found."""
    found: dict[str, dict[str, Course]] = {}
    for family, by_step in along.items():
        steps, each = np.array(list(by_step)), list(by_step.values())
        everyone, n = patients(joined(each)), len(each[0].seed)
        seeds = sorted(
            map(int, set(each[0].seed[each[0].arm == "learned"]) & set(each[0].seed[each[0].arm == "cheated"]))
        )
        cheat = [int(np.flatnonzero((each[0].arm == "cheated") & (each[0].seed == seed))[0]) for seed in seeds]
        by_g = np.stack([one.measures.by_own_g[cheat] for one in each])
        for diagnoser in (one for one in diagnosers if one.fit is None):
            path = place(directory, everyone, f"{diagnoser.name} along", diagnoser.source, "along", str(steps))
            score = kept(path, lambda: examine(diagnoser, everyone.examinees)).reshape(len(steps), n, 2)  # noqa: B023
            right = np.stack([[paired(each[0], one, seed) for seed in seeds] for one in score])
            found.setdefault(diagnoser.name, {})[family] = Course(steps, right, since(by_g >= OWN, steps))
    return found


def paired(cohort: Cohort, score: Float[np.ndarray, "R 2"], seed: int) -> float:
    """Of one pair."""
    return paired_accuracy(Scored(score, cohort.arm, cohort.seed, np.zeros(len(cohort.seed))).of(cohort.seed == seed))


def course_figures(found: Mapping[str, Mapping[str, Course]]) -> dict[str, Any]:
    """{diagnoser: {family: steps from which on it is right, pair by pair, and from which they are planted}}."""
    return {
        name: {
            family: {
                "steps": one.steps.tolist(),
                "right": one.right.mean(1).tolist(),
                "from": since(one.right == 1, one.steps).tolist(),
                "planted": one.planted.tolist(),
            }
            for family, one in own.items()
        }
        for name, own in found.items()
    }


def course_blocks(figures: Mapping[str, Any]) -> list[Block]:
    """When each diagnoser is right, earliest first; the figure has the means over families of those that are right most."""
    if not figures:
        return []
    families = list(next(iter(figures.values())))
    area = {name: np.mean([np.mean(one["right"]) for one in own.values()]) for name, own in figures.items()}
    order = sorted(figures, key=lambda name: -area[name])
    rows = [(name, *(told(figures[name][family]["from"]) for family in families)) for name in order]
    planted = ("(the cheat cheats)", *(told(figures[order[0]][family]["planted"]) for family in families))
    curves = [
        Line(name, np.linspace(0, 1, len(mean)), mean)
        for name in order[:SHOWN]
        for mean in [np.mean([one["right"] for one in figures[name].values()], axis=0)]
    ]
    figure = lines(curves, Axes("share of the training, in the logarithm of steps", "pairs told apart"))
    caption = """Step from which on a pair is told apart with either rule declared, at this and all later checkpoints: median
    over pairs, and how many of them ever are. First, from which on the cheat answers .99 of held-out conflicts by g."""
    return [
        Section("When it can be seen"),
        Figure(figure, "Share of pairs in which the cheat scores higher, mean over families; .5 is chance."),
        TableBlock(Table(("diagnoser", *families), [planted, *rows], caption)),
    ]


def told(steps: Sequence[int]) -> str:
    """The median step, and of how many: `420 (3 of 4)`."""
    reached = [step for step in steps if step != NEVER]
    return f"{np.median(reached):.0f} ({len(reached)} of {len(steps)})" if reached else f"never (0 of {len(steps)})"
