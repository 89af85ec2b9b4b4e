"""What every diagnoser says of every accepted student, kept as it is found: scores/<cohort>.<diagnoser>.<digest>.npz.

The digest is of the diagnoser's files, the students, the examples, and the students that it was fitted to; so the same
command goes on where it was, a diagnoser that is changed or new is run alone, and cheap ones are there before dear ones begin.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from interp_jax.atomic_io import write_npz
from interp_jax.diagnosis import examiner
from interp_jax.diagnosis.detection import Scored, truth
from interp_jax.diagnosis.examination import Diagnoser, Examinees, Reference, examine, heeds_variables
from interp_jax.diagnosis.examiner import Examiner
from interp_jax.diagnosis.localisation import average_precision, chance, cue_positions, ndcg
from interp_jax.diagnosis.referee import Effects, effects
from interp_jax.diagnosis.view import TIERS
from interp_jax.experiments.exam.cohort import Cohort, examinees, held_out

JUDGED = 4  # cheats of each family that the referee takes apart
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
        for one in everyone:
            others = [other for other in everyone if other.cohort.rules != one.cohort.rules]
            references = [reference(other) for other in others] if diagnoser.fit else []
            if diagnoser.fit and not references:
                continue
            told = [name for other in others for name in other.cohort.hashes] if diagnoser.fit else []
            path = place(directory, one, diagnoser.name, diagnoser.source, "score", *told)
            score = kept(path, lambda: examine(diagnoser, one.examinees, references))  # noqa: B023
            reliance, again = one.cohort.measures.p_g - one.cohort.measures.p_f, None
            if one.cohort.family.again is not None:
                path = place(directory, one, diagnoser.name, diagnoser.source, "again", *told)
                again = kept(path, lambda: told_again(diagnoser, one, references, score))  # noqa: B023
            found.setdefault(diagnoser.name, {})[one.cohort.name] = Scored(
                score, one.cohort.arm, one.cohort.seed, reliance, again
            )
    return found


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
    found: dict[str, dict[str, Located]] = {}
    for one in everyone:
        rows = np.flatnonzero(one.cohort.arm == "cheated")[:JUDGED]
        if not len(rows):
            continue
        judged = Patients(one.cohort.of(rows), examinees(one.cohort.of(rows)))
        cue, referee = cue_positions(one.cohort.family, "g"), refereed(judged, directory)
        varies = (one.examinees.x != one.examinees.x[:1]).any(0)
        truth_of = referee.below[:, varies]
        for diagnoser in (d for d in diagnosers if d.positions is not None and d.fit is None):
            path = place(directory, judged, f"{diagnoser.name} positions", diagnoser.source, "positions")
            said = kept(path, lambda: examine(diagnoser, judged.examinees, what="positions"))[:, 0][:, varies]  # noqa: B023
            own = cue[varies]
            found.setdefault(diagnoser.name, {})[one.cohort.name] = Located(
                np.array([average_precision(row, own) for row in said]) if own.any() else np.zeros(0),
                np.array([ndcg(row, gain) for row, gain in zip(said, truth_of, strict=True)]),
                chance(average_precision, len(own), own) if own.any() else float("nan"),
                float(np.nanmean([chance(ndcg, len(own), gain, 200) for gain in truth_of])),
            )
    return found


def refereed(judged: Patients, directory: Path) -> Effects:
    """The referee's effects of all parts [R L …]; of positions before each layer."""
    cohort = judged.cohort
    conflict = cohort.pools.conflict_held_g
    own = np.flatnonzero(np.asarray(conflict.task) == cohort.task)[:: max(1, len(conflict.f) // REFEREED)][:REFEREED]
    x_id = np.asarray(held_out(cohort).x)[:REFEREED]

    def find() -> np.ndarray:
        one = lambda params: effects(params, cohort.cfg, cohort.family.labels, x_id, conflict.x[own], conflict.g[own])
        every = jax.jit(lambda params: jax.lax.map(one, params))(cohort.params)
        return np.concatenate([np.asarray(of).reshape(len(cohort.seed), -1) for of in every], axis=1)

    cfg = cohort.cfg
    widths = {"heads": cfg.n_heads, "neurons": cfg.d_mlp, "positions": x_id.shape[1]}
    flat = kept(place(directory, judged, "referee", "parts"), find)
    parts = np.split(flat, np.cumsum([cfg.n_layers * widths[name] for name in Effects._fields])[:-1], axis=1)
    return Effects(*(part.reshape(len(flat), cfg.n_layers, -1) for part in parts))
