"""What every diagnoser says of every accepted student, kept as it is found: scores/<cohort>.<diagnoser>.<digest>.npz.

The digest is of the diagnoser's files, the students, the examples, and the students that it was fitted to; so the same
command goes on where it was, a diagnoser that is changed or new is run alone, and cheap ones are there before dear ones begin.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from interp_jax.atomic_io import write_npz
from interp_jax.diagnosis import examiner
from interp_jax.diagnosis.detection import Scored, truth
from interp_jax.diagnosis.examination import Diagnoser, Examinees, Reference, examine, heeds_variables
from interp_jax.diagnosis.examiner import Examiner
from interp_jax.diagnosis.localisation import average_precision, chance, cue_positions, ndcg
from interp_jax.diagnosis.referee import Effects, effects
from interp_jax.diagnosis.view import TIERS
from interp_jax.experiments.engine import cores
from interp_jax.experiments.exam.cohort import Cohort, examinees, held_out
from interp_jax.models.transformer import Params

JUDGED = 12  # the most cheats of each family that the referee takes apart
REFEREED = 256  # inputs


class Patients(NamedTuple):
    """Accepted students of a cohort, temperatures matched, and what examiners get of them."""

    cohort: Cohort
    examinees: Examinees


def patients(cohort: Cohort) -> Patients:
    """Those of a cohort."""
    return Patients(cohort, examinees(cohort))


def scores(
    everyone: Sequence[Patients], diagnosers: Sequence[Diagnoser], directory: Path
) -> dict[str, dict[str, Scored]]:
    """{diagnoser: {cohort: scores}}; those that fit do so on cohorts of other rules, and judge none where there are none."""
    found: dict[str, dict[str, Scored]] = {}
    for diagnoser in diagnosers:
        every = at_once(lambda one: scored(diagnoser, one, everyone, directory), everyone)  # noqa: B023
        for one, said in zip(everyone, every, strict=True):
            if said is not None:
                found.setdefault(diagnoser.name, {})[one.cohort.name] = said
    return found


def at_once(find: Callable[[Patients], Any], everyone: Sequence[Patients]) -> list[Any]:
    """`find` of each cohort, as many at a time as there are cores: most of it is compiling, which keeps one busy."""
    pool = ThreadPoolExecutor(cores())
    try:
        return list(pool.map(find, everyone))
    finally:
        pool.shutdown(cancel_futures=True)


def scored(diagnoser: Diagnoser, one: Patients, everyone: Sequence[Patients], directory: Path) -> Scored | None:
    """What a diagnoser says of a cohort; None where it has nothing to be fitted to."""
    others = [other for other in everyone if other.cohort.rules != one.cohort.rules]
    references = [reference(other) for other in others] if diagnoser.fit else []
    if diagnoser.fit and not references:
        return None
    told = [name for other in others for name in other.cohort.hashes] if diagnoser.fit else []
    path = place(directory, one, diagnoser.name, diagnoser.source, "score", *told)
    score = kept(path, lambda: examine(diagnoser, one.examinees, references))
    reliance, again = one.cohort.measures.p_g - one.cohort.measures.p_f, None
    if one.cohort.family.again is not None:
        path = place(directory, one, diagnoser.name, diagnoser.source, "again", *told)
        again = kept(path, lambda: told_again(diagnoser, one, references, score))
    return Scored(score, one.cohort.arm, one.cohort.seed, reliance, again)


def told_again(
    diagnoser: Diagnoser, patients: Patients, references: Sequence[Reference], score: Float[np.ndarray, "R 2"]
) -> Float[np.ndarray, " R"]:
    """Scores of students that learned, with f told otherwise; NaN of others. `score`: those with f as it was told first."""
    cohort = patients.cohort
    learned = cohort.arm == "learned"
    said = np.where(learned, score[:, 0], np.nan).astype(np.float32)
    if not heeds_variables(diagnoser, patients.examinees):
        return said
    said[learned] = examine(diagnoser, examinees(cohort.of(np.flatnonzero(learned)), ("again",)), references)[:, 0]
    return said


def examiners(
    found: Mapping[str, Mapping[str, Scored]], everyone: Sequence[Patients], diagnosers: Sequence[Diagnoser]
) -> dict[str, Examiner]:
    """The combined examiner of each cohort, fitted to those of other rules; {} where there are none."""
    parts = [one.name for one in diagnosers if one.tier < max(TIERS) and one.fit is None and one.name in found]
    return examiner.examiners(found, parts, {one.cohort.name: one.cohort.rules for one in everyone})


def reference(patients: Patients) -> Reference:
    """Learned and cheated students of a cohort, and which is which."""
    rows, cheated = truth(patients.cohort.arm)
    return Reference(examinees(patients.cohort.of(rows)), cheated)


def place(directory: Path, patients: Patients, name: str, *sources: str) -> Path:
    """The file of what is found; its name depends on all that it depends on."""
    content = hashlib.sha256("/".join((*sources, *patients.cohort.hashes)).encode())
    content.update(np.ascontiguousarray(patients.examinees.x).tobytes())
    words = re.sub(r"\W+", "-", f"{patients.cohort.name} {name}")
    return directory / "scores" / f"{words}.{content.hexdigest()[:12]}.npz"


def kept(path: Path, find: Callable[[], np.ndarray]) -> np.ndarray:
    """What is in the file, else what is found, which is then in the file."""
    if not path.exists():
        print(f"examining: {path.name.partition('.')[0]}", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, {"found": find()})
    return np.load(path)["found"]


class Located(NamedTuple):
    """Of a diagnoser in a cohort: over its cheats, f declared.

    Attributes:
      precision: AP of positions against those that the cue alone has, [R]; empty where there is none.
      gain: NDCG of positions against what the referee finds of them before layer 1, [R].
      chance_precision, chance_gain: of a random order.
    """

    precision: np.ndarray
    gain: np.ndarray
    chance_precision: float
    chance_gain: float


def located(
    everyone: Sequence[Patients], diagnosers: Sequence[Diagnoser], directory: Path
) -> dict[str, dict[str, Located]]:
    """{diagnoser: {cohort: how well it says where}}, of those that say it."""
    those = [one for one in diagnosers if one.positions is not None and one.fit is None]
    found: dict[str, dict[str, Located]] = {}
    every = at_once(lambda one: located_in(one, those, directory), everyone)
    for one, own in zip(everyone, every, strict=True):
        for name, said in own.items():
            found.setdefault(name, {})[one.cohort.name] = said
    return found


def located_in(one: Patients, diagnosers: Sequence[Diagnoser], directory: Path) -> dict[str, Located]:
    """Of some cheats of a cohort, by diagnoser; {} of one without."""
    rows = np.flatnonzero(one.cohort.arm == "cheated")[:JUDGED]
    if not len(rows):
        return {}
    judged = Patients(one.cohort.of(rows), examinees(one.cohort.of(rows)))
    varies = (one.examinees.x != one.examinees.x[:1]).any(0)
    own = cue_positions(one.cohort.family, "g")[varies]
    truth_of = refereed(judged, directory, ("positions",))["positions"][:, 1, varies]  # before layer 1
    by_chance = chance(average_precision, len(own), own) if own.any() else float("nan")
    gain_by_chance = float(np.nanmean([chance(ndcg, len(own), gain, 200) for gain in truth_of]))
    found = {}
    for diagnoser in diagnosers:
        path = place(directory, judged, f"{diagnoser.name} positions", diagnoser.source, "positions")
        said = kept(path, lambda: examine(diagnoser, judged.examinees, what="positions"))[:, 0][:, varies]  # noqa: B023
        found[diagnoser.name] = Located(
            np.array([average_precision(row, own) for row in said]) if own.any() else np.zeros(0),
            np.array([ndcg(row, gain) for row, gain in zip(said, truth_of, strict=True)]),
            by_chance,
            gain_by_chance,
        )
    return found


def refereed(
    judged: Patients, directory: Path, names: Sequence[str] = Effects._fields
) -> dict[str, Float[np.ndarray, "R L _"]]:
    """The referee's effects of parts of these kinds; of positions before each layer."""
    cohort = judged.cohort
    conflict = cohort.pools.conflict_held_g
    own = np.flatnonzero(np.asarray(conflict.task) == cohort.task)[:: max(1, len(conflict.f) // REFEREED)][:REFEREED]
    x_id = np.asarray(held_out(cohort).x)[:REFEREED]

    def found(name: str) -> np.ndarray:
        def one(params: Params) -> Array:
            all_ = effects(params, cohort.cfg, cohort.family.labels, x_id, conflict.x[own], conflict.g[own])
            return getattr(all_, name)

        return np.asarray(jax.jit(lambda params: jax.lax.map(one, params))(cohort.params))

    return {name: kept(place(directory, judged, f"referee {name}"), lambda: found(name)) for name in names}  # noqa: B023
