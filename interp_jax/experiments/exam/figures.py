"""All figures of an examination, as they go into exam.json and from there into the report."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from interp_jax.diagnosis import detection
from interp_jax.diagnosis.detection import Scored
from interp_jax.diagnosis.examiner import NAME, Examiner
from interp_jax.experiments.exam.scores import Located, Patients

DRAWS = 1_000  # of a bootstrap over families and seeds; of one over the seeds of a family a quarter
EACH: dict[str, Callable[[Scored], float]] = {
    "natural": detection.natural,
    "tpr_at_5_fpr": detection.true_positives,
    "paired": detection.paired_accuracy,
    "graded": detection.graded,
    "false_alarms": partial(detection.above, arm="nuisance"),
    "infected": partial(detection.above, arm="infected"),
    "obfuscated": partial(detection.above, arm="obfuscated"),
    "misled": detection.misled,
}


def found_figures(
    found: Mapping[str, Mapping[str, Scored]], sick: Sequence[Patients], tiers: Mapping[str, int]
) -> dict[str, Any]:
    """{diagnoser: its tier, and by figure what it is in each family}; the combined examiner first, others by tier and name."""
    matched = {one.cohort.name: detection.calliper(one.cohort.measures.id_loss, one.cohort.arm) for one in sick}
    figures: dict[str, Any] = {}
    for name in sorted(found, key=lambda name: (name != NAME, tiers[name], name)):
        own, families = found[name], list(found[name].values())
        figures[name] = {
            "tier": tiers[name],
            "mirrored": {f: interval([one], DRAWS // 4, redraw_families=False) for f, one in own.items()},
            "macro": interval(families, DRAWS),
            "worst": interval(families, DRAWS, detection.worst, redraw_families=False),
            "natural_within_calliper": {f: detection.natural(one.of(matched[f])) for f, one in own.items()},
            "transferred": detection.transferred(own),
            **{figure: {f: of(one) for f, one in own.items()} for figure, of in EACH.items()},
        }
    return figures


def interval(
    families: Sequence[Scored],
    draws: int,
    of: Callable[[Sequence[Scored]], float] = detection.macro,
    redraw_families: bool = True,
) -> dict[str, float]:
    """A number with its interval."""
    return detection.bootstrap(families, of, draws, redraw_families=redraw_families)._asdict()


def mean(values: Mapping[str, float]) -> float:
    """That over families that have a number."""
    finite = [value for value in values.values() if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def where_figures(where: Mapping[str, Mapping[str, Located]]) -> dict[str, Any]:
    """{diagnoser: {family: how well it says where}}."""
    return {
        name: {
            family: {
                "precision": one.precision.tolist(),
                "ndcg": one.gain.tolist(),
                "chance": [one.chance_precision, one.chance_gain],
            }
            for family, one in own.items()
        }
        for name, own in where.items()
    }


def examiner_figures(fitted: Mapping[str, Examiner]) -> dict[str, dict[str, float]]:
    """{family that is judged: {diagnoser: the weight that the other families gave it}}."""
    return {family: dict(zip(one.diagnosers, one.weights.tolist(), strict=True)) for family, one in fitted.items()}
