"""What was found, from sums by window: curves of effect over divergence, read at one divergence, with intervals over files.

    effect      Σ_w (wanted_w - before_w) / Σ_w n_w        n the positions that decide: nats of log-probability
    divergence  Σ_w kl_w / Σ_w m_w                         m the positions that decide nothing

Intervals are percentiles of 400 draws of as many files, each with all its windows (the bootstrap: Efron 1979); curves are read
at the bound anew in each draw, so that what the dose there is has its share in them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp_jax.experiments.steering.config import Doses
from interp_jax.experiments.steering.methods import DIRECTIONS, OTHERS
from interp_jax.steering.response import at_equal_divergence

DRAWS, LEVEL = 400, 0.95
METHODS = (*DIRECTIONS, *OTHERS)
Arrays = dict[str, np.ndarray]


class Curve(NamedTuple):
    """Effects and divergences by dose, with intervals; leading axes are those of methods, layers, …"""

    effect: Float[np.ndarray, "*N X"]
    low: Float[np.ndarray, "*N X"]
    high: Float[np.ndarray, "*N X"]
    kl: Float[np.ndarray, "*N X"]


class Score(NamedTuple):
    """The effect at the bound, its interval, and the dose there; NaN where no dose reaches it."""

    effect: Float[np.ndarray, "*N"]
    low: Float[np.ndarray, "*N"]
    high: Float[np.ndarray, "*N"]
    dose: Float[np.ndarray, "*N"]


class Best(NamedTuple):
    """The direction with the most effect at the bound."""

    method: int
    layer: int
    dose: float


def resampled(arrays: Arrays) -> Float[np.ndarray, "B W"]:
    """How often each window counts: in the first row once, then in draws of files."""
    names, own = np.unique(arrays["group"], return_inverse=True)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    return np.concatenate([np.ones((1, len(own))), counts[:, own]]).astype(np.float64)


def ratios(
    arrays: Arrays, wanted: np.ndarray, kl: np.ndarray, steered: int, measured: int
) -> tuple[np.ndarray, np.ndarray]:
    """Effects and divergences of draws, [B ...], of sums whose last axes are [T W]: of the measured and the steered target."""
    draws = resampled(arrays)
    n, m = arrays["weights"][0, measured], arrays["weights"][1, steered]
    sums = lambda x: np.moveaxis(np.float64(x) @ draws.T, -1, 0)
    total = lambda x: np.maximum(draws @ np.float64(x), np.finfo(float).tiny)
    shape = lambda x, like: x.reshape(-1, *[1] * (like.ndim - 1))
    effect = sums(wanted[..., measured, :] - arrays["before"][measured])
    side = sums(kl[..., steered, :])
    return effect / shape(total(n), effect), side / shape(total(m), side)


def sums_of(arrays: Arrays, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of all methods of a target, [M L X T W]."""
    both = lambda name: np.concatenate([arrays[f"directions.{name}"][:, t], arrays[f"others.{name}"][:, t]])
    return both("wanted"), both("kl")


def curve(effect: np.ndarray, kl: np.ndarray) -> Curve:
    """Of draws."""
    low, high = np.quantile(effect[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Curve(effect[0], low, high, kl[0])


def score(effect: np.ndarray, kl: np.ndarray, doses: Doses) -> Score:
    """Of draws, at the bound; an interval is of the draws that reach it, and there is none where fewer than nine in ten do."""
    at = at_equal_divergence(np.array(doses.doses), effect, kl, doses.bound)
    reached = np.isfinite(at.effect[1:]).mean(0) > 0.9
    with np.errstate(all="ignore"):
        filled = np.where(np.isfinite(at.effect[1:]).any(0), at.effect[1:], 0.0)
        low, high = np.nanquantile(filled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Score(at.effect[0], np.where(reached, low, np.nan), np.where(reached, high, np.nan), at.dose[0])


def curves_of(arrays: Arrays, t: int) -> Curve:
    """Of all methods and layers of a target, [M L X]."""
    return curve(*ratios(arrays, *sums_of(arrays, t), t, t))


def scores_of(arrays: Arrays, t: int, doses: Doses, measured: int | None = None) -> Score:
    """Likewise, [M L]; of what is measured for another target where one is named."""
    return score(*ratios(arrays, *sums_of(arrays, t), t, t if measured is None else measured), doses)


def random_of(arrays: Arrays, t: int) -> Curve:
    """Of random directions and layers, [N L X]."""
    return curve(*ratios(arrays, arrays["random.wanted"], arrays["random.kl"], t, t))


def random_scores(arrays: Arrays, t: int, doses: Doses) -> Score:
    """At the bound, [N L]."""
    return score(*ratios(arrays, arrays["random.wanted"], arrays["random.kl"], t, t), doses)


def best_layers(scores: Score) -> np.ndarray:
    """Of each method, where it does most at the bound; layer 0 where it never gets there."""
    return np.where(np.isfinite(scores.effect), scores.effect, -np.inf).argmax(1)


def best_direction(arrays: Arrays, t: int, doses: Doses) -> Best | None:
    """Of a target; None where none reaches the bound."""
    scores = scores_of(arrays, t, doses)
    effect = np.where(np.isfinite(scores.effect), scores.effect, -np.inf)[: len(DIRECTIONS)]
    if not np.isfinite(effect.max()):
        return None
    method, layer = np.unravel_index(effect.argmax(), effect.shape)
    return Best(int(method), int(layer), float(scores.dose[method, layer]))
