"""Edit the MLPs' weights so that what the shortcut adds to their neurons means nothing, and fine-tune.

    D = k - q            what the diagnosed positions add to neurons k, over D_ID and positions; q: neurons with them cut
    Δ = argmin ‖D (W + Δ)‖² + λ tr ΔᵀCΔ            C = E q qᵀ: what is said where they are cut stays (MEMIT)

By `steering/weight_edits.py`. Only rows of the n neurons through which most of the shortcut goes are changed, layers one after
another. n = 1 is an edit of rank one (ROME). What goes past the MLPs stays.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from interp_jax import taps
from interp_jax.diagnosis.answering import every_row
from interp_jax.diagnosis.mediation import NEURONS, cut_at, mean_embedding
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Prescription, Ward, largest, stacked
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.steering.weight_edits import batch, with_weights

TOUCHES = "neurons"
WEIGHT, DAMPING = 0.01, 1e-3  # λ, for each key; of C, times its mean diagonal


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """The weights edited; no edits of activations stay."""
    x, R = exercises.x[exercises.some()], ward.n
    chosen = np.stack([largest(diagnosis.neurons.reshape(R, -1), n) for n in counts], axis=1)
    chosen = chosen.reshape(R, len(counts), *diagnosis.neurons.shape[1:])
    made = [stacked([edited(ward, ward.patient(r), diagnosis.cut[r], own, x) for own in chosen[r]]) for r in range(R)]
    return Prescription(stacked(made), {})


def edited(
    ward: Ward, params: Params, cut: Float[np.ndarray, " P"], chosen: Bool[np.ndarray, "L M"], x: Any
) -> Params:
    """The weights of one patient, with rows of the chosen neurons changed."""
    for layer in range(ward.cfg.n_layers):
        here, there = (np.asarray(k, np.float64)[layer] for k in _keys(ward.cfg, ward.labels)(params, cut, x))
        own = chosen[layer]
        keys, kept = ((k.reshape(-1, k.shape[-1]))[:, own] for k in (here - there, there))
        if own.any() and keys.any():
            params = with_weights(params, ward.cfg, layer, unlearned(params, layer, own, keys, kept))
    return params


def unlearned(
    params: Params,
    layer: int,
    own: Bool[np.ndarray, " M"],
    keys: Float[np.ndarray, "N S"],
    kept: Float[np.ndarray, "K S"],
) -> Float[np.ndarray, "M D"]:
    """Δ, zero in rows of other neurons."""
    W = np.asarray(params["blocks"]["mlp"]["W_out"][layer], np.float64)
    C = kept.T @ kept / len(kept)
    C += DAMPING * (np.trace(C) / len(C) + 1e-12) * np.eye(len(C))
    change = np.zeros_like(W)
    change[own] = batch(C, keys, -keys @ W[own], WEIGHT * len(keys))
    return change


@lru_cache(maxsize=8)
def _keys(cfg: TransformerConfig, labels: int) -> Any:
    def one(params: Params, cut: Array, x: Array) -> tuple[Array, Array]:
        edits = cut_at(cut, mean_embedding(params, x, cfg))
        here = taps.record(every_row, [NEURONS])(params, x, cfg, labels)[1][NEURONS]
        run = lambda: taps.edit(every_row)(edits, params, x, cfg, labels)
        return here, taps.record(run, [NEURONS])()[1][NEURONS]

    return jax.jit(one)
