"""Erase what tells the label at the diagnosed positions, before every layer and for good, and fine-tune.

    r_l(x) of LEACE (Belrose et al. 2023; `probes/erasure/linear.py`): no linear reader tells the label from x_i before layer l

A position has erasers of its own, fitted layer after layer to what the earlier ones leave (`probes/scrubbing.py`). What tells
the label only together with another position stays.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool

from interp_jax.activations.moment_harvest import Labelled, one_hot
from interp_jax.activations.moments import Moments
from interp_jax.diagnosis.answering import every_row
from interp_jax.diagnosis.cures.cut import repeated
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Prescription, Ward, largest, stacked
from interp_jax.models.transformer import TransformerConfig
from interp_jax.probes.erasure.eraser import Eraser, edit_of
from interp_jax.probes.erasure.linear import least_change
from interp_jax.probes.scrubbing import Fit, scrubbed

TOUCHES = "positions"
SITE = "blocks.resid_pre"


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """The weights as they are, with the n first positions scrubbed."""
    rows, cfg = exercises.some(), ward.cfg
    x, label = np.asarray(exercises.x)[rows], np.asarray(exercises.label)[rows]
    block = Labelled(x, np.repeat(one_hot(label, ward.labels)[:, None], x.shape[1], axis=1))
    rank, model = min(ward.labels, cfg.d_model), _model(cfg, ward.labels)

    def edit(r: int, n: int) -> Any:
        fit = at(largest(diagnosis.positions[r], n))
        return edit_of(scrubbed(model, ward.patient(r), SITE, lambda: [block], fit, rank, by_position=True))

    made = [stacked([edit(r, n) for n in counts]) for r in range(ward.n)]
    return Prescription(repeated(ward.params, len(counts)), {SITE: (stacked(made),)})


def at(chosen: Bool[np.ndarray, " P"]) -> Fit:
    """Erasers of chosen positions, as far as anything varies there; those of others do nothing."""

    def fit(moments: Moments) -> Eraser:
        own = chosen & (np.trace(moments.scatter, axis1=-2, axis2=-1) > 0)
        (P, D), T = moments.mean.shape, moments.cross.shape[-1]
        every = Eraser(np.zeros((P, D)), np.zeros((P, D, min(D, T))), np.zeros((P, min(D, T), D)))
        if own.any():
            for held, made in zip(every, least_change(Moments(*(part[own] for part in moments))), strict=True):
                held[own] = made
        return every

    return fit


@lru_cache(maxsize=8)
def _model(cfg: TransformerConfig, labels: int) -> Any:
    return lambda params, x: every_row(params, x, cfg, labels)
