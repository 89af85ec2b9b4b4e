"""All figures of an examination, as they go into exam.json and from there into the report."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool

from interp_jax.diagnosis import detection, thresholds
from interp_jax.diagnosis.detection import Both, Scored
from interp_jax.diagnosis.examiner import NAME, Examiner
from interp_jax.experiments.exam.scores import Located, Patients

DRAWS = 1_000  # of a bootstrap over families and seeds; of one over the seeds of a family a quarter
EACH: dict[str, Callable[[Scored], float]] = {
    "natural": detection.natural,
    "tpr_at_5_fpr": thresholds.true_positives,
    "paired": detection.paired_accuracy,
    "graded": detection.graded,
}
ABOVE: dict[str, Callable[[Scored], Bool[np.ndarray, " n"]]] = {
    "false_alarms": partial(thresholds.above, arm="nuisance"),
    "infected": partial(thresholds.above, arm="infected"),
    "obfuscated": partial(thresholds.above, arm="obfuscated"),
    "emerged": thresholds.emerged,
    "misled": thresholds.misled,
}


def found_figures(
    found: Mapping[str, Mapping[str, Scored]], sick: Sequence[Patients], tiers: Mapping[str, int]
) -> dict[str, Any]:
    """{diagnoser: its tier, and by figure what it is in each family}; the combined examiner first, others by tier and name."""
    matched = {one.cohort.name: detection.calliper(one.cohort.measures.id_loss, one.cohort.arm) for one in sick}
    figures: dict[str, Any] = {}
    first = found.get(NAME)
    for name in sorted(found, key=lambda name: (name != NAME, tiers[name], name)):
        own, families = found[name], list(found[name].values())
        figures[name] = {
            "tier": tiers[name],
            "mirrored": {f: interval([one], DRAWS // 4, redraw_families=False) for f, one in own.items()},
            "macro": interval(families, DRAWS),
            "worst": interval(families, DRAWS, detection.worst, redraw_families=False),
            "natural_within_calliper": {f: detection.natural(one.of(matched[f])) for f, one in own.items()},
            "transferred": thresholds.transferred(own),
            **{figure: {f: of(one) for f, one in own.items()} for figure, of in EACH.items()},
            **{figure: shares(own, of) for figure, of in ABOVE.items()},
            "over_families": {
                figure: interval(families, DRAWS // 4, partial(detection.macro, of=of))
                for figure, of in EACH.items()
                if any(np.isfinite(of(one)) for one in families)
            },
        }
        if first is not None and name != NAME and set(own) == set(first):
            both = [Both(first[f], one) for f, one in own.items()]
            figures[name]["behind_the_examiner"] = interval(both, DRAWS, detection.ahead)
    return figures


def without_figures(found: Mapping[str, Scored], names: Sequence[str]) -> dict[str, Any]:
    """Of the examiner that does without some diagnosers: `found` is what it says of each family."""
    families = list(found.values())
    return {
        "without": list(names),
        "mirrored": {f: detection.mirrored(one) for f, one in found.items()},
        "macro": interval(families, DRAWS),
        "worst": interval(families, DRAWS, detection.worst, redraw_families=False),
    }


def shares(
    own: Mapping[str, Scored], of: Callable[[Scored], Bool[np.ndarray, " n"]]
) -> dict[str, dict[str, float | int]]:
    """{family: who is above its limit; "all": of all families}."""
    flags = {f: of(one) for f, one in own.items()}
    pooled = flags | {"all": np.concatenate([*flags.values(), np.zeros(0, bool)])}
    return {
        name: thresholds.share(one)._asdict() | {"value": thresholds.share(one).value} for name, one in pooled.items()
    }


def interval(
    families: Sequence[Scored] | Sequence[Both],
    draws: int,
    of: Callable[[Sequence[Any]], float] = detection.macro,
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
