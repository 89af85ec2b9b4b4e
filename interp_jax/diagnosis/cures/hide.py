"""Hide positions at random and fine-tune to say as much as the declared rule still can: right for the right reasons.

    x_i ← mean over D_ID of the embedding at i, and noise     for k positions of each input, k = 0 … n alike, anew at each step;
                                                              the others are blurred by the same
    target = left · label + (1 - left) · uniform              left = Π over hidden i of (1 - what i settles of the rule)

A shortcut still answers where the rule cannot, and is untaught it; where what the shortcut needs is hidden, the rule is what is
left. For shortcuts that read what the declared rule reads, of which no position can be cut. It does not ask where the shortcut
sits, and afterwards nothing is hidden (after Ross, Hughes and Doshi-Velez 2017; dropout of inputs: Srivastava et al. 2014).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from interp_jax.diagnosis import mending
from interp_jax.diagnosis.cures.cut import prescribe as cut_positions
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Prescription, Ward

TOUCHES = "hidden"
# What an infection has silenced takes more to be heard again than a path that is cut off takes to be done without.
OPTIMIZER = replace(mending.OPTIMIZER, learning_rate=8e-3, warmup_steps=50)


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """The weights as they are, and how many are hidden."""
    nothing = cut_positions(ward, diagnosis, exercises, [0 for _ in counts], seed)
    return nothing._replace(hidden=np.tile(np.asarray(counts, np.int32), (ward.n, 1)))
