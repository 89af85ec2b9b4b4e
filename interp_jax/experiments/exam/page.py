"""The report: who sat the examination and was accepted, and which diagnoser tells who learned from who cheated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp_jax.diagnosis.diagnosers_io import every_diagnoser
from interp_jax.diagnosis.examination import Diagnoser
from interp_jax.diagnosis.examiner import NAME, combined
from interp_jax.diagnosis.view import TIERS
from interp_jax.experiments.exam.cohort import Cohort, along, cohorts, matched
from interp_jax.experiments.exam.courses import course_blocks, course_figures, courses
from interp_jax.experiments.exam.figures import examiner_figures, found_figures, where_figures, without_figures
from interp_jax.experiments.exam.panels import controls, diagnosis, localisation, made_of
from interp_jax.experiments.exam.population import acceptance_rows, population
from interp_jax.experiments.exam.scores import examiners, located, patients, scores
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.frozen import made_by
from interp_jax.results.blocks import Page, Text

SUMMARY = """Students of two rules, f and g, that give the same answer to every input an examiner may use. One kind learned
f, the other g, from the same first weights and the same inputs in the same order: only the labels of a quarter of them differ,
on inputs where f and g do. Which is which?"""
BLIND = 0.75
# Sums of what examples have, the border of tier 2: how far one comes without them is told as well.
SUMS = ("exchanged tokens", "replaced tokens")


def report(groups: list[GroupResult]) -> Page:
    """Detection, localisation, acceptance; all figures in exam.json. Scores are kept beside the runs."""
    return reported(groups, every_diagnoser())


def reported(groups: Sequence[GroupResult], diagnosers: Sequence[Diagnoser]) -> Page:
    """The same, by some diagnosers."""
    directory = Path(groups[0].directories[0]).parents[1]
    everyone = cohorts(groups)
    sick = [patients(matched(one)) for one in map(accepted, everyone) if complete(one)]
    blocks, summary = population(everyone), SUMMARY
    data: dict[str, Any] = {**made_by(directory), "acceptance": acceptance_rows(everyone)}
    if sick:
        found = scores(sick, diagnosers, directory)
        where = located(sick, diagnosers, directory)
        tiers, fitted = {one.name: one.tier for one in diagnosers}, examiners(found, sick, diagnosers)
        if fitted:
            found = {NAME: combined(found, fitted), **found}
            tiers[NAME] = max(tiers[name] for one in fitted.values() for name in one.diagnosers)
        figures, absent = found_figures(found, sick, tiers), [name for name in tiers if name not in found]
        trained = course_figures(courses(along(groups), diagnosers, directory))
        told = diagnosis(figures) + made_of(fitted, absent) + controls(figures) + localisation(where)
        blocks, summary = told + course_blocks(trained) + blocks, f"{SUMMARY} {in_words(figures)}"
        data |= {"detection": figures, "localisation": where_figures(where), "examiner": examiner_figures(fitted)}
        data |= {"courses": trained}
        rest = [one for one in diagnosers if one.name not in SUMS]
        if fitted and (others := examiners(found, sick, rest)):
            data["examiner_without_sums"] = without_figures(combined(found, others), SUMS)
    else:
        blocks.append(
            Text("No family has both a student that learned and one that cheated: there is nothing to tell apart.")
        )
    return Page("Learned or cheated?", summary, blocks, {"exam.json": data})


def in_words(figures: Mapping[str, Any]) -> str:
    """Who tells them apart best, and where nobody does."""
    contenders = {name: own for name, own in figures.items() if own["tier"] < max(TIERS)}
    said = []
    for name, own in sorted(contenders.items(), key=lambda one: (one[0] != NAME, -one[1]["macro"]["value"]))[:2]:
        worst = min(own["mirrored"], key=lambda family: own["mirrored"][family]["value"])
        said.append(
            f"{name.capitalize()}: mirrored AUROC {of(own['macro'])}, mean over families; worst {of(own['worst'])}, {worst}."
        )
    best = {
        family: max(own["mirrored"].get(family, {"value": 0.5})["value"] for own in contenders.values())
        for family in next(iter(contenders.values()))["mirrored"]
    }
    if blind := [family for family, value in best.items() if value < BLIND]:
        said.append(f"Where no diagnoser reaches {BLIND}: {', '.join(blind)}.")
    return " ".join(said)


def of(estimate: Mapping[str, float]) -> str:
    """A number with its interval: `0.95 [0.91, 0.99]`."""
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def accepted(cohort: Cohort) -> Cohort:
    """Those that are."""
    return cohort.of(np.flatnonzero(cohort.refused == ""))


def complete(cohort: Cohort) -> bool:
    """Whether there are students of both kinds."""
    return {"learned", "cheated"} <= set(cohort.arm)
