"""The check-up: whoever was treated is examined again, on D_ID, and goes home with the cure after which most is well.

    R̂ = (found before - found after) / (found before - the least that was found after any of them)
    K, S                                            as in `outcome.py`, as far as D_ID tells
    apparent score = 3 / (1/R̂ + 1/K + 1/S)          each clipped to 0 … 1; 0 if any is 0

The outcome, with an instrument's score, the declared rule told, in the place of conflicts, which no one may look at. A cure
that leaves the shortcut, one that takes away what was right, and one that changes what was said are each told from one that
does none of this. It compares cures of one patient, and does not say how well the best of them is. Of cures that aim at nothing
it can be a poor judge, since instruments waver where weights have merely moved: the more cures it compares, the more of these.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float

from interp_jax.diagnosis.examination import Diagnoser, Examinees, examine
from interp_jax.diagnosis.outcome import Signs, harmonic, ratio
from interp_jax.diagnosis.ward import Cured


def found_again(
    judge: Diagnoser, seen: Examinees, cured: Cured, index: tuple[np.ndarray, ...]
) -> Float[np.ndarray, " R"]:
    """An instrument's score of treated patients, with what was cut still cut.

    Args:
      judge: the instrument.
      seen: the patients as they were, with the declared rule first of what is told.
      cured: leaves [R N …].
      index: which of them, two arrays [R].
    """
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[index], cured)
    treated = seen._replace(params=one.params, edits=one.edits, declared=seen.declared[:1])
    return examine(judge, treated)[:, 0]


def apparent_score(
    before: Signs,
    found_before: Float[np.ndarray, " R"],
    after: Mapping[str, tuple[Signs, Float[np.ndarray, " R"]]],
) -> dict[str, Float[np.ndarray, " R"]]:
    """How well patients are after each cure, as far as D_ID tells, 0 … 1; see the module.

    Args:
      before: of patients as they were, [R].
      found_before: the instrument's scores then.
      after: the same two by cure.
    """
    least = np.min([found for _, found in after.values()], axis=0)
    most = found_before - least
    made = {}
    for name, (signs, found) in after.items():
        restored = np.where(most > 0, (found_before - found) / np.where(most > 0, most, 1.0), 0.0)
        parts = [restored, ratio(signs.id_accuracy, before.id_accuracy), np.exp(-np.asarray(signs.divergence))]
        made[name] = harmonic([np.clip(np.asarray(part, np.float64), 0.0, 1.0) for part in parts])
    return made


def chosen(apparent: Mapping[str, Float[np.ndarray, " R"]], prescribed: Sequence[str]) -> list[str]:
    """With which cure each goes home: that after which it is best, and of equals the one that was prescribed."""
    best = np.max(list(apparent.values()), axis=0)
    return [
        name if apparent[name][r] >= best[r] else next(other for other in apparent if apparent[other][r] >= best[r])
        for r, name in enumerate(prescribed)
    ]
