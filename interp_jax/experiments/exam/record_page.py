"""The report as a medical record: who was examined, the verdict, where the shortcut sits, the cure, and what came of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp_jax.diagnosis import detection
from interp_jax.diagnosis.cures_io import every_cure
from interp_jax.diagnosis.detection import Scored
from interp_jax.diagnosis.diagnosers_io import every_diagnoser, load_diagnoser
from interp_jax.diagnosis.examination import Diagnoser
from interp_jax.diagnosis.treatment import Cure
from interp_jax.experiments.exam.cohort import Cohort, cohorts, matched
from interp_jax.experiments.exam.own_record import own_record
from interp_jax.experiments.exam.page import complete
from interp_jax.experiments.exam.population import population
from interp_jax.experiments.exam.record_panels import agreement, false_alarms, foresight, outcomes, whereabouts
from interp_jax.experiments.exam.runs import Config, experiment
from interp_jax.experiments.exam.scores import patients, scores
from interp_jax.experiments.exam.treatment import Record, records
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.frozen import made_by
from interp_jax.results.blocks import Block, Page, Text

__all__ = ["Config", "experiment", "medical_record", "report"]

JUDGE = "exchanged_tokens"  # which gives the verdict; fixed in advance, like the next
LOCATOR = "replaced_tokens"  # which says where the shortcut sits
CHEAP = 3  # the most forward passes over the examples that an instrument of this report takes
SUMMARY = """Students of two rules, f and g, that agree on all that an examiner may look at. Each patient answers by g where
they differ. The record says what was examined, what the instruments said, where the shortcut sits, whether anything healthy is
left to go back to, what was done, what a check-up said, and what came of it on inputs that no one was trained on or treated
with."""


def report(groups: list[GroupResult]) -> Page:
    """The record of all patients; figures in cures.json."""
    directory = Path(groups[0].directories[0]).parents[1]
    everyone = cohorts(groups)
    accepted = [one.of(np.flatnonzero(one.refused == "")) for one in everyone if (one.refused == "").any()]
    instruments = [one for one in every_diagnoser() if is_used(one)]
    sick = [patients(matched(one)) for one in accepted if complete(one)]
    found = scores(sick, instruments, directory) if sick else {}
    blocks, data = medical_record(accepted, found, instruments, directory)
    return Page(
        "Patients, treated",
        SUMMARY,
        [*blocks, *population(everyone)],
        {"cures.json": made_by(directory) | {"patients": data}},
    )


def is_used(one: Diagnoser) -> bool:
    """Whether an instrument is of this report: the two that are named, and what is cheap and needs no other family."""
    cheap = one.cost <= CHEAP and one.fit is None and not one.on_host
    return cheap or one.name.replace(" ", "_") in (JUDGE, LOCATOR)


def medical_record(
    accepted: Sequence[Cohort],
    found: Mapping[str, Mapping[str, Scored]],
    instruments: Sequence[Diagnoser],
    directory: Path,
    locator: Diagnoser | None = None,
    judge: Diagnoser | None = None,
    cures: Sequence[Cure] | None = None,
) -> tuple[list[Block], dict[str, Any]]:
    """Blocks of a report, and figures.

    Args:
      accepted: students of each family, before temperatures are matched.
      found: what instruments said: {name: {family: scores}}.
      instruments: those.
      directory: where results are kept.
      locator: which says where the shortcut sits; `LOCATOR` by default.
      judge: which gives the verdict, and examines again whoever was treated; `JUDGE` by default.
      cures: that are given; all by default.
    """
    locator, judge = locator or load_diagnoser(LOCATOR), judge or load_diagnoser(JUDGE)
    all_of_them = records(accepted, locator, judge, every_cure() if cures is None else cures, directory)
    if not all_of_them:
        return [Text("There is no patient: no family has an infected or cheating student and one that learned.")], {}
    blocks: list[Block] = [*outcomes(all_of_them)]
    for one in all_of_them:
        blocks += own_record(one, found, judge.name, locator)
    blocks += [*whereabouts(all_of_them), *foresight(all_of_them)]
    blocks += [*false_alarms(found, instruments, [one.cohort.name for one in all_of_them])]
    return blocks, figures(all_of_them)


def figures(every: Sequence[Record]) -> dict[str, Any]:
    """All figures, for a file."""
    return {
        one.cohort.name: {
            "arm": one.cohort.arm.tolist(),
            "seed": one.cohort.seed.tolist(),
            "prospect": one.prospect.tolist(),
            "foreseen": {arm: values.tolist() for arm, values in one.foreseen.items()},
            "prognosis_auroc": detection.auroc(
                *(one.foreseen.get(arm, np.zeros(0)) for arm in ("infected", "cheated"))
            ),
            "prescribed": list(one.prescribed),
            "ndcg": {
                name: {"diagnosis": each.tolist(), "chance": by_chance}
                for name, (each, by_chance) in agreement(one).items()
            },
            "score": one.score(one.prescribed).tolist(),
            "found": one.found.tolist(),
            "apparent": {name: value.tolist() for name, value in one.apparent.items()},
            "kept": list(one.kept),
            "score_kept": one.score(one.kept).tolist(),
            "oracle": one.oracle.tolist(),
            "before": {name: value[:, 0].tolist() for name, value in one.before._asdict().items()},
            "cures": {
                name: {
                    "touched": list(t.counts),
                    "dose": [t.counts[n] for n in t.dose],
                    **{key: value.tolist() for key, value in t.after._asdict().items()},
                    **{key: value.tolist() for key, value in t.worth._asdict().items()},
                    "found": t.found.tolist(),
                }
                for name, t in one.treatments.items()
            },
        }
        for one in every
    }
