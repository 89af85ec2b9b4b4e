"""Students that are treated: what was found of each, what it was given, and what came of it, kept as it is found.

As in `scores.py`, a file's name depends on all that its content depends on: the students, the diagnoser and the cure. So the
same command goes on where it was, and a cure that is new or changed is given alone.
"""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from interp_jax.diagnosis import mediation, mending, prognosis
from interp_jax.diagnosis.checkup import apparent_score, chosen, found_again
from interp_jax.diagnosis.declared import influence
from interp_jax.diagnosis.examination import Diagnoser, examine
from interp_jax.diagnosis.family import source_of
from interp_jax.diagnosis.outcome import Outcome, Signs, outcome, signs
from interp_jax.diagnosis.treatment import ANYWHERE, COUNTS, WHERE, Cure, choice, counts_of, dose, treated
from interp_jax.diagnosis.ward import Cured, Diagnosis, Exercises, Ward, exercises_of
from interp_jax.errors import InputError
from interp_jax.experiments.exam.cohort import Cohort
from interp_jax.experiments.exam.scores import Patients, kept, patients, place, refereed

SEEN = 12  # patients of each arm of whom there is a prognosis
TREATED = {"infected": 6, "cheated": 2, "obfuscated": 2}  # who are treated


class Treatment(NamedTuple):
    """Of one cure: numbers of parts [N]; what is measured of patients and its worth [R N]; which number was prescribed [R].

    At that number, `found` is what the judge says afterwards [R].
    """

    counts: tuple[int, ...]
    after: Signs
    worth: Outcome
    dose: np.ndarray
    found: Float[np.ndarray, " R"]

    def at_dose(self, values: Float[np.ndarray, "R N"]) -> Float[np.ndarray, " R"]:
        """Of the number that was prescribed."""
        return values[np.arange(len(values)), self.dose]


class Record(NamedTuple):
    """Of patients of one cohort.

    Attributes:
      cohort: those that are treated.
      diagnosis, before, oracle, prospect: of each [R]. found: what the judge said of each before.
      treatments: by name of the cure. prescribed: which of them each was to get, said before any was tried.
      apparent: score of what may be prescribed, as far as a check-up on D_ID tells. kept: which each goes home with then.
      foreseen: prospects of all that were seen, by arm.
      referee: by kind of part, what each does for the answers by g, on conflicts, which no one else sees.
    """

    cohort: Cohort
    diagnosis: Diagnosis
    before: Signs
    oracle: Float[np.ndarray, " R"]
    prospect: Float[np.ndarray, " R"]
    found: Float[np.ndarray, " R"]
    treatments: Mapping[str, Treatment]
    prescribed: Sequence[str]
    apparent: Mapping[str, Float[np.ndarray, " R"]]
    kept: Sequence[str]
    foreseen: Mapping[str, Float[np.ndarray, " Q"]]
    referee: Mapping[str, Float[np.ndarray, "R L _"]]

    def score(self, given: str | Sequence[str]) -> Float[np.ndarray, " R"]:
        """Of a cure, or of one for each patient, at the number that was prescribed."""
        if isinstance(given, str):
            return self.treatments[given].at_dose(self.treatments[given].worth.score)
        return np.array([self.score(name)[r] for r, name in enumerate(given)])


def records(
    cohorts: Sequence[Cohort],
    diagnoser: Diagnoser,
    judge: Diagnoser,
    cures: Sequence[Cure],
    directory: Path,
    counts: Sequence[int] = COUNTS,
) -> list[Record]:
    """Those of all cohorts that have someone to treat and someone who learned.

    Args:
      cohorts: of students.
      diagnoser: which says where the shortcut sits.
      judge: which examines again whoever was treated.
      cures: that are given.
      directory: where results are kept.
      counts: numbers of parts.

    Raises:
      InputError: what may be prescribed is not among the cures; see `treated`.
    """
    if missing := {WHERE, ANYWHERE} - {cure.name for cure in cures}:
        raise InputError(
            f"cures: {', '.join(sorted(missing))} may be prescribed and is not among those that are given"
        )
    made = []
    for one in cohorts:
        rows = np.concatenate([np.flatnonzero(one.arm == arm)[:SEEN] for arm in TREATED])
        if len(rows) and (one.arm == "learned").any():
            made.append(record(one, one.of(rows), diagnoser, judge, cures, directory, counts))
            forget_programs()
    return made


def forget_programs() -> None:
    """Compiled programs are given back. Those of a family fit no other, and come to 10,000 mappings of memory.

    Linux gives a process 65,530 (`vm.max_map_count`), and LLVM ends with "Cannot allocate memory" beyond.
    """
    jax.clear_caches()
    gc.collect()


class Case(NamedTuple):
    """Who is to be treated, what is known of them, who said so, and who examines them again."""

    here: Patients
    ward: Ward
    diagnosis: Diagnosis
    exercises: Exercises
    diagnoser: Diagnoser
    judge: Diagnoser
    directory: Path

    def examined(self, cured: Cured, index: Int[np.ndarray, " R"]) -> Float[np.ndarray, "5 R N"]:
        """Signs of treated patients, and what the judge says of those at the index."""
        again = found_again(self.judge, self.here.examinees, cured, (np.arange(self.ward.n), index))
        cohort = self.here.cohort
        tasks = 1 if cohort.family.tasks is None else 2
        every = np.stack(signs(self.ward, cured, cohort.pools, cohort.task, tasks))
        return np.concatenate([every, np.broadcast_to(again[:, None], every.shape[1:])[None]])


def as_they_are(case: Case) -> tuple[Signs, Float[np.ndarray, " R"]]:
    """Signs before any treatment [R 1], and what the judge says then."""
    nothing = Cured(jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], case.ward.params), {})
    path = place(case.directory, case.here, "as they are", case.judge.source)
    *before, found = kept(path, lambda: case.examined(nothing, np.zeros(case.ward.n, int)))
    return Signs(*before), found[:, 0]


def treatment(
    case: Case, cure: Cure, before: Signs, oracle: Float[np.ndarray, " R"], counts: Sequence[int]
) -> Treatment:
    """Of all patients by one cure."""
    numbers = counts_of(cure, case.ward, counts)
    at = dose(cure, case.diagnosis, numbers)
    sources = (cure.source, case.diagnoser.source, case.judge.source, source_of(mediation), source_of(mending))
    path = place(case.directory, case.here, f"cure {cure.name}", *sources, *map(str, numbers))
    give = lambda: treated(cure, case.ward, case.diagnosis, case.exercises, numbers)
    *after, found = kept(path, lambda: case.examined(give(), at))
    return Treatment(numbers, Signs(*after), outcome(before, Signs(*after), oracle[:, None]), at, found[:, 0])


def record(
    everyone: Cohort,
    ill: Cohort,
    diagnoser: Diagnoser,
    judge: Diagnoser,
    cures: Sequence[Cure],
    directory: Path,
    counts: Sequence[int],
) -> Record:
    """Of one cohort's patients."""
    pools, family = everyone.pools, everyone.family
    x = np.asarray(pools.id_train.x)
    exercises = exercises_of(pools.id_train, influence(family, "f", x[:: max(1, len(x) // 512)]).mean(0))
    seen, ward = patients(ill), Ward(ill.cfg, family.labels, ill.params, ill.seed)
    diagnosis = found(seen, ward, exercises, diagnoser, directory)
    by_name = {cure.name: cure for cure in cures}
    prospect = looked_ahead(seen, ward, diagnosis, exercises, diagnoser, by_name, counts, directory)
    rows = np.concatenate([np.flatnonzero(ill.arm == arm)[:most] for arm, most in TREATED.items()])
    own, cohort = Diagnosis(*(part[rows] for part in diagnosis)), ill.of(rows)
    ward = ward._replace(params=cohort.params, seeds=cohort.seed)
    case = Case(patients(cohort), ward, own, exercises, diagnoser, judge, directory)
    oracle, (before, found_before) = twins(everyone, cohort), as_they_are(case)
    treatments = {cure.name: treatment(case, cure, before, oracle, counts) for cure in cures}
    foreseen = {arm: prospect[ill.arm == arm] for arm in dict.fromkeys(ill.arm.tolist())}
    prescribed, referee = choice(own, exercises, ward.labels), refereed(case.here, directory)
    may_be = {name: treatments[name] for name in (WHERE, ANYWHERE)}
    after = {name: (Signs(*map(one.at_dose, one.after)), one.found) for name, one in may_be.items()}
    apparent = apparent_score(Signs(*(value[:, 0] for value in before)), found_before, after)
    return Record(
        cohort=cohort,
        diagnosis=own,
        before=before,
        oracle=oracle,
        prospect=prospect[rows],
        found=found_before,
        treatments=treatments,
        prescribed=prescribed,
        apparent=apparent,
        kept=chosen(apparent, prescribed),
        foreseen=foreseen,
        referee=referee,
    )


def found(here: Patients, ward: Ward, exercises: Exercises, diagnoser: Diagnoser, directory: Path) -> Diagnosis:
    """The diagnosis of all patients, f declared."""
    path = place(directory, here, f"{diagnoser.name} positions", diagnoser.source, "positions")
    positions = kept(path, lambda: examine(diagnoser, here.examinees, what="positions"))[:, 0]

    def parts() -> np.ndarray:
        one = mediation.diagnosed(ward, positions, exercises)
        return np.concatenate([one.cut, one.heads.reshape(ward.n, -1), one.neurons.reshape(ward.n, -1)], axis=1)

    every = kept(place(directory, here, "parts", diagnoser.source, source_of(mediation)), parts)
    cfg, P = ward.cfg, positions.shape[1]
    cut, heads, neurons = np.split(every, [P, P + cfg.n_layers * cfg.n_heads], axis=1)
    shape = (ward.n, cfg.n_layers, -1)
    return Diagnosis(positions, cut, heads.reshape(shape), neurons.reshape(*shape[:2], cfg.d_mlp))


def looked_ahead(
    here: Patients,
    ward: Ward,
    diagnosis: Diagnosis,
    exercises: Exercises,
    diagnoser: Diagnoser,
    cures: Mapping[str, Cure],
    counts: Sequence[int],
    directory: Path,
) -> Float[np.ndarray, " R"]:
    """The prognosis of each, on inputs of D_ID that were trained on."""
    given = [cures[name].source for name in (WHERE, ANYWHERE)]
    sources = (diagnoser.source, source_of(prognosis), source_of(mending), *given, *map(str, counts))
    path = place(directory, here, "prognosis", *sources)
    return kept(path, lambda: prognosis.prospects(ward, diagnosis, exercises, cures, counts))


def twins(everyone: Cohort, cohort: Cohort) -> Float[np.ndarray, " R"]:
    """Accuracy by f on conflicts of each one's twin of the same seed that learned; the mean of those that did, without one."""
    learned = everyone.arm == "learned"
    by_f, seeds = everyone.measures.by_f[learned], everyone.seed[learned]
    own = [by_f[seeds == seed] for seed in cohort.seed]
    return np.array([float(one[0]) if len(one) else float(by_f.mean()) for one in own])
