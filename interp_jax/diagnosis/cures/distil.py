"""Distil the cut patient into fresh weights of the same shape, which keep the cut: nothing of the old ones is left.

first    the patient is cut at the n first positions and fine-tuned, as in `cut.py`: the teacher
then     fresh weights, under the same cut: -log p(label) + KL(teacher ‖ student)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax import randomness
from interp_jax.diagnosis import mending
from interp_jax.diagnosis.cures.cut import prescribe as cut_positions
from interp_jax.diagnosis.cures.cut import repeated
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Prescription, Ward
from interp_jax.models import transformer

TOUCHES = "positions"
TEACHING, STEPS = 60, 240  # steps: of the teacher, and of its student


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """Fresh weights, the cut, and the teacher."""
    cut = cut_positions(ward, diagnosis, exercises, counts, seed)
    teacher = mending.mended(ward, cut, exercises, TEACHING)
    return Prescription(repeated(fresh(ward, seed), len(counts)), cut.edits, teacher.params)


def fresh(ward: Ward, seed: int) -> transformer.Params:
    """First weights [R …], other than those the patients once had."""
    keys = jax.vmap(lambda own: randomness.key(seed, "cure/distil", own))(jnp.asarray(ward.seeds, jnp.int32))
    made = jax.vmap(lambda key: transformer.init(key, ward.cfg))(keys)
    return jax.tree.map(np.asarray, made)
