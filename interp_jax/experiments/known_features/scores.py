"""The scores of a group's members, from what was observed last."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp_jax.dictionaries.measures.absorption import Recalls, absorption
from interp_jax.dictionaries.measures.fidelity import Sums, merge
from interp_jax.dictionaries.measures.recovery import Detections, detected
from interp_jax.experiments.experiment import GroupResult
from interp_jax.train.run import ALIVE

Values = Float[np.ndarray, " R"]


class Scores(NamedTuple):
    """Of every member that did not diverge; see `measures`."""

    f1: Values
    precision: Values
    recall: Values
    mcc: Values
    uniqueness: Values
    mean_max_cosine: Values
    explained_variance: Values
    shrinkage: Values
    l0: Values
    dead: Values
    recall_alone: Values
    recall_with_child: Values
    absorbed: Values
    true_l0: Values


def scores_of(group: GroupResult) -> Scores:
    """At the end of training."""
    seen, alive = group.observations[max(group.observations)], group.diverged_at == ALIVE
    width = np.asarray(group.config.dictionary.width)
    fidelity = merge(Sums(*(seen[f"sums.{name}"] for name in Sums._fields)), axis=1, width=width)
    as_detectors = detected(Detections(*(seen[f"detections.{name}"] for name in Detections._fields)), width)
    counts = Recalls(*(seen[f"recalls.{name}"] for name in Recalls._fields))
    absorbing = absorption(counts, seen["standing_cosine"])
    found = as_detectors._asdict() | fidelity._asdict() | absorbing._asdict() | seen
    return Scores(*(np.asarray(found[name], np.float64)[alive] for name in Scores._fields))
