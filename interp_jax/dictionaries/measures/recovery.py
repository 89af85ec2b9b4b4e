"""Whether a dictionary has found the features that are there, where these are known (SynthSAEBench: Chanin and Garriga-Alonso
2026, arXiv:2602.14687).

    C = |cos(W_dec, d)|                        [F, S]
    MCC                mean of C over the pairs of the best assignment, of one feature each (Hungarian; Kuhn 1955)
    mean max cosine    mean over true features of max_f C: MMCS of Sharkey et al. 2022
    uniqueness         number of different best matches argmax_s C, over F
    precision, recall, F1   of each feature as a detector of its best match:  tp/fired, tp/actual, 2 tp/(fired + actual)

F1 is 0 for a feature that never fires, and means are over all features in use.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment

from interp_jax.dictionaries.encoders import unit_rows


class Detections(NamedTuple):
    """Of every feature, over a stream: examples in which it fires, its match is there, and both; they add up over blocks."""

    fired: Int[Array | np.ndarray, "... F"]
    actual: Int[Array | np.ndarray, "... F"]
    both: Int[Array | np.ndarray, "... F"]


class Directions(NamedTuple):
    """How far the directions are those of true features."""

    mcc: float
    mean_max_cosine: float
    uniqueness: float


class Detected(NamedTuple):
    """Mean scores of features as detectors; of every member."""

    precision: Float[np.ndarray, "..."]
    recall: Float[np.ndarray, "..."]
    f1: Float[np.ndarray, "..."]


def cosines(
    W_dec: Float[Array | np.ndarray, "F D"], directions: Float[Array | np.ndarray, "S D"]
) -> Float[Array, "F S"]:
    """C; 0 for a row of zeros."""
    return jnp.abs(unit_rows(jnp.asarray(W_dec)) @ unit_rows(jnp.asarray(directions)).T)


def detect(f: Float[Array, "B F"], coefficients: Float[Array, "B S"], matched: Int[Array, " F"]) -> Detections:
    """Of one block; `matched` is the true feature that each is most like, argmax_s C."""
    fires, there = f != 0, (coefficients != 0)[:, matched]
    return Detections(*(x.sum(0, dtype=jnp.int32) for x in (fires, there, fires & there)))


def found_directions(C: Float[Array | np.ndarray, "F S"]) -> Directions:
    """Of the features in use."""
    C = np.asarray(C, np.float64)
    rows, columns = linear_sum_assignment(C, maximize=True)
    different = len(np.unique(C.argmax(1)))
    return Directions(float(C[rows, columns].mean()), float(C.max(0).mean()), different / len(C))


def detected(counts: Detections, width: Any = 0) -> Detected:
    """Means over the features in use (`width`; 0 is all) of every member."""
    fired, actual, both = (np.asarray(x, np.float64) for x in counts)
    used = np.asarray(width)[..., None]
    here = np.broadcast_to((np.arange(fired.shape[-1]) < used) | (used == 0), fired.shape)
    scores = (both / np.maximum(fired, 1), both / np.maximum(actual, 1), 2 * both / np.maximum(fired + actual, 1))
    return Detected(*(np.where(here, x, 0).sum(-1) / here.sum(-1) for x in scores))
