"""Fine-tuning on D_ID alone: the control. The shortcut is right on all of it, so nothing speaks against it."""

from collections.abc import Sequence

from interp_jax.diagnosis.cures.cut import prescribe as cut_positions
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Prescription, Ward

TOUCHES = "nothing"


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """The weights as they are, and edits that do nothing."""
    return cut_positions(ward, diagnosis, exercises, [0 for _ in counts], seed)
