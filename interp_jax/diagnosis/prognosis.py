"""Said before any treatment: is there something healthy to go back to ("infected"), or was the rule never learned?

A trial, on a copy: what is prescribed, for the first steps of a treatment, watched on D_ID alone. Whoever once learned the rule
is sooner back at it than who has it still to learn: savings, as Ebbinghaus (1885) measured what a memory holds that cannot be
recalled.

    score = - mean KL(target ‖ p)        nats, after `TRIAL` steps, while what is prescribed to be cut or hidden is so

The targets are those of the treatment (`mending.py`): the declared label, or as sure of it as the rule can be without what is
hidden. 0 at best. What a patient says as it is says nothing of this, for an infection silences a rule long before it undoes
what computes it; nor does what can be read off its neurons, where who never learned has variables of the rule as well.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float

from interp_jax.diagnosis.mending import relearned
from interp_jax.diagnosis.treatment import COUNTS, Cure, choice, counts_of, dose
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Ward
from interp_jax.errors import InputError

TRIAL = 100  # steps, a third of a treatment


def prospects(
    ward: Ward,
    diagnosis: Diagnosis,
    exercises: Exercises,
    cures: Mapping[str, Cure],
    counts: Sequence[int] = COUNTS,
    seed: int = 0,
    devices: list[jax.Device] | None = None,
) -> Float[np.ndarray, " R"]:
    """The prospects of all patients, the higher the better.

    Args:
      ward: the patients.
      diagnosis: of each.
      exercises: inputs of D_ID.
      cures: by name, those that `treatment.choice` may prescribe.
      counts: numbers of parts that may be prescribed.
      seed: of what a prescription draws.
      devices: that patients are spread over.

    Raises:
      InputError: what is prescribed is not among the cures.
    """
    prescribed, found = np.array(choice(diagnosis, exercises, ward.labels)), np.full(ward.n, np.nan)
    for name in np.unique(prescribed):
        if name not in cures:
            raise InputError(f"prognosis: {name} is prescribed, and is not among the cures that are given")
        rows = np.flatnonzero(prescribed == name)
        own = Diagnosis(*(np.asarray(part)[rows] for part in diagnosis))
        found[rows] = -trial(ward.of(rows), own, exercises, cures[str(name)], counts, seed, devices)
    return found


def trial(
    ward: Ward,
    diagnosis: Diagnosis,
    exercises: Exercises,
    cure: Cure,
    counts: Sequence[int],
    seed: int,
    devices: list[jax.Device] | None,
) -> Float[np.ndarray, " R"]:
    """How far copies are from what is to be said, nats, after the first steps of a cure at the number that is prescribed."""
    counts = counts_of(cure, ward, counts)
    index = np.arange(ward.n), dose(cure, diagnosis, counts)
    every = cure.prescribe(ward, diagnosis, exercises, counts, seed)
    at_dose = jax.tree.map(lambda leaf: np.asarray(leaf)[index][:, None], every)
    return relearned(ward, at_dose, exercises, min(TRIAL, cure.steps), cure.optimizer, devices)[:, 0]
