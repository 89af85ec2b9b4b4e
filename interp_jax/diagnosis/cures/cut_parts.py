"""Cut the heads and neurons through which the shortcut goes, and fine-tune: what they say is its mean over D_ID, for good.

a_c ← mean over D_ID of a_c, at each position              for the n parts of which most of the shortcut goes through
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from interp_jax import taps
from interp_jax.diagnosis.answering import every_row
from interp_jax.diagnosis.cures.cut import repeated
from interp_jax.diagnosis.mediation import HEADS, NEURONS
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Prescription, Ward, largest
from interp_jax.models.transformer import TransformerConfig
from interp_jax.taps import Edit

TOUCHES = "parts"


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """The weights as they are, with the n first parts cut."""
    rows, n = exercises.some(), len(counts)
    means = {
        site: np.asarray(mean) for site, mean in _means(ward.cfg, ward.labels)(ward.params, exercises.x[rows]).items()
    }
    R, (L, H) = ward.n, diagnosis.heads.shape[1:]
    every = np.concatenate([diagnosis.heads.reshape(R, -1), diagnosis.neurons.reshape(R, -1)], axis=1)
    chosen = np.stack([largest(every, count) for count in counts], axis=1)
    heads, neurons = np.split(chosen, [L * H], axis=2)
    where = {HEADS: heads.reshape(R, n, L, 1, 1, H, 1), NEURONS: neurons.reshape(R, n, L, 1, 1, -1)}
    edits = {site: (Edit("replace", np.repeat(mean[:, None], n, 1), where[site]),) for site, mean in means.items()}
    return Prescription(repeated(ward.params, n), edits)


@lru_cache(maxsize=8)
def _means(cfg: TransformerConfig, labels: int) -> Any:
    sites = (HEADS, NEURONS) if cfg.d_mlp else (HEADS,)

    def one(params: Any, x: Any) -> Any:
        seen = taps.record(every_row, sites)(params, x, cfg, labels)[1]
        return jax.tree.map(lambda there: there.mean(1, keepdims=True), seen)

    return jax.jit(lambda params, x: jax.lax.map(lambda own: one(own, x), params))
