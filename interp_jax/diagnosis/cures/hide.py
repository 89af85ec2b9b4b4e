"""Hide positions at random and fine-tune: what a shortcut needs whole is often not there, so all that tells must be used.

    x_i ← mean over D_ID of the embedding at i              for k positions of each input, k = 0 … n alike, anew at each step

For shortcuts that read what the declared rule reads, of which no position can be cut. Afterwards nothing is hidden. It does not
ask where the shortcut sits (after dropout of inputs: Srivastava et al. 2014).
"""

from collections.abc import Sequence

import numpy as np

from interp_jax.diagnosis.cures.cut import prescribe as cut_positions
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Prescription, Ward

TOUCHES = "hidden"


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """The weights as they are, and how many are hidden."""
    nothing = cut_positions(ward, diagnosis, exercises, [0 for _ in counts], seed)
    return nothing._replace(hidden=np.tile(np.asarray(counts, np.int32), (ward.n, 1)))
