"""Calibration of the toy models: geometry and phases that theory or the paper fix (Elhage et al. 2022), with both generators.

Every row is repeated over independent seeds. Where gradient descent may stop in a local minimum, what counts is the best of
several initialisations, as in the paper.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from interp_jax.anatomy.geometry import dimensions_per_feature, feature_dimensionality, gram, represented
from interp_jax.anatomy.phases import best_solutions, exact_losses, phase_of_last
from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.experiment import GroupResult
from interp_jax.randomness import GENERATORS
from interp_jax.results.tables import interval

MODULE = "interp_jax.experiments.superposition"
TOLERANCE = 0.02  # of a dimensionality
PAIRS, PENTAGON, ANTIPRISM = 1 / 2, 2 / 5, 3 / 8  # two directions on a line, five in a plane, eight in space
N_STARTS = 8  # initialisations of which the best counts
N_CELLS = 10  # of a phase diagram's side
DENSITIES, IMPORTANCES = np.geomspace(0.01, 1.0, N_CELLS), np.geomspace(0.1, 10.0, N_CELLS)

Overrides = Mapping[str, Any]
DECAYING_RATE = {"optimizer.learning_rate": 3e-3, "optimizer.decay": "cosine"}
ANNEALED = {"model.init_scale": 0.05, "optimizer.learning_rate": 6e-3, "optimizer.decay": "cosine"}


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    return [one for generator in GENERATORS for one in _instruments(generator)]


def _instruments(generator: str) -> list[Instrument]:
    def instrument(name: str, truth: str, runs: Callable[[bool], list[Overrides]], judge: Any) -> Instrument:
        def configs(quick: bool) -> list[ConfigDict]:
            fixed = {"data.generator": generator} | ({"steps": 20} if quick else {})
            return [compose(MODULE, **{**one, **fixed}) for one in runs(quick)]

        return Instrument(f"superposition, {generator}: {name}", truth, configs, judge)

    return [
        instrument("dense linear model", "m orthogonal features, D* = 1", linear_runs, judge_linear),
        instrument("plane, S = .8", "n=5, m=2: two antipodal pairs, D = 1/2", partial(plane_runs, 0.8), judge_pairs),
        instrument("plane, S = .9", "n=5, m=2: a pentagon, D = 2/5", partial(plane_runs, 0.9), judge_pentagon),
        instrument(
            "1/(1−S) = 2.9",
            "n=120, m=12: only antipodal pairs, D = 1/2",
            partial(wide_runs, 2.9, 5),
            judge_sticky_pairs,
        ),
        instrument(
            "1/(1−S) = 4.1",
            "n=120, m=12: D = 1/2 or 2/5",
            partial(wide_runs, 4.1, 12),
            partial(judge_polytopes, (PAIRS, PENTAGON)),
        ),
        instrument(
            "1/(1−S) = 4.1, annealed",
            "n=120, m=12, small first weights, a rate of 6e-3 that decays: D = 1/2, 2/5 or 3/8",
            partial(wide_runs, 4.1, 12, changes=ANNEALED),
            partial(judge_polytopes, (PAIRS, PENTAGON, ANTIPRISM)),
        ),
        instrument("phases", "n=2, m=1: the phase of least exact loss", phase_runs, judge_phases),
    ]


def linear_runs(quick: bool) -> list[Overrides]:
    """Twenty dense features of decaying importance in five dimensions, without ReLU."""
    shape = {"model.kind": "linear", "model.n_features": 20, "model.n_hidden": 5, "steps": 10_000}
    law = {"data.sparsity": 0.0, "data.importance_decay": 0.7}
    return [{**shape, **law, **DECAYING_RATE, "seed": seed} for seed in range(2 if quick else 10)]


def judge_linear(groups: Sequence[GroupResult]) -> Verdict:
    """Distance of W Wᵀ from a projection on m of the axes, and of D* from 1."""
    W = final(groups)["W"]
    inner = np.asarray(gram(W))
    truth = np.eye(W.shape[1]) * np.asarray(represented(W))[:, None]
    count = np.asarray(represented(W)).sum(1)
    error = np.maximum(np.abs(inner - truth).max((1, 2)), np.abs(np.asarray(dimensions_per_feature(W)) - 1))
    error = np.where(count == W.shape[2], error, 1.0)
    return verdict(
        "largest error of an entry of WᵀW, or of D*", error, "at most .02 in every run", error.max() <= TOLERANCE
    )


def plane_runs(sparsity: float, quick: bool) -> list[Overrides]:
    """Five features of importance .9^i in the plane; each `N_STARTS` seeds are one repetition."""
    fixed = {"model.n_features": 5, "model.n_hidden": 2, "data.importance_decay": 0.9, "data.sparsity": sparsity}
    repeats = 2 if quick else 5
    return [{**fixed, **DECAYING_RATE, "steps": 10_000, "seed": seed} for seed in range(repeats * N_STARTS)]


def judge_pairs(groups: Sequence[GroupResult]) -> Verdict:
    """How far the best solutions are from two antipodal pairs."""
    return judge_plane(groups, 4, PAIRS)


def judge_pentagon(groups: Sequence[GroupResult]) -> Verdict:
    """How far the best solutions are from a pentagon."""
    return judge_plane(groups, 5, PENTAGON)


def judge_plane(groups: Sequence[GroupResult], n_represented: int, dimensionality: float) -> Verdict:
    """Largest error of a represented feature's dimensionality in the best of each `N_STARTS` seeds; 1 if another number is."""
    seen = final(groups)
    order = np.argsort(np.concatenate([g.config.seed for g in groups])).reshape(-1, N_STARTS)
    best = np.take_along_axis(order, np.argmin(seen["loss"][order], axis=1)[:, None], 1)[:, 0]
    W = seen["W"][best]
    error = np.where(np.asarray(represented(W)).sum(1) == n_represented, largest_miss(W, (dimensionality,)), 1.0)
    name = f"largest |D − {dimensionality:g}|, best of {N_STARTS} starts"
    return verdict(name, error, "at most .02 in every repetition", error.max() <= TOLERANCE)


def wide_runs(
    inverse_density: float, seeds: int, quick: bool, changes: Overrides = MappingProxyType({})
) -> list[Overrides]:
    """120 equal features in twelve dimensions, AdamW at 1e-3, batches of 512, 6,000 steps, but for `changes`."""
    shape = {"model.n_features": 120, "model.n_hidden": 12, "batch_size": 512, "steps": 6_000}
    rule = {"optimizer.name": "adamw", "optimizer.learning_rate": 1e-3, "optimizer.weight_decay": 1e-2}
    law = {"data.sparsity": 1 - 1 / inverse_density}
    return [{**shape, **rule, **law, **changes, "seed": seed} for seed in range(2 if quick else seeds)]


def judge_sticky_pairs(groups: Sequence[GroupResult]) -> Verdict:
    """Largest distance of a represented feature's dimensionality from 1/2."""
    error = largest_miss(final(groups)["W"], (PAIRS,))
    return verdict(
        "largest |D − 1/2| of a represented feature", error, "at most .02 in every run", error.max() <= TOLERANCE
    )


def judge_polytopes(levels: Sequence[float], groups: Sequence[GroupResult]) -> Verdict:
    """Share of represented features whose dimensionality is none of `levels`; 1 where none is represented."""
    W = final(groups)["W"]
    shown = np.asarray(represented(W))
    share = ((misses(W, levels) > TOLERANCE) & shown).sum(1) / np.maximum(shown.sum(1), 1)
    error = np.where(shown.any(1), share, 1.0)
    name = f"share of represented features farther than .02 from all {len(levels)}"
    return verdict(name, error, "at most .1 on average", error.mean() <= 0.1)


def phase_runs(quick: bool) -> list[Overrides]:
    """Two features in one dimension over density and importance of the second; each four seeds are one repetition."""
    every = 3 if quick else 1
    return [
        {
            "model.n_features": 2,
            "model.n_hidden": 1,
            "data.sparsity": float(1 - density),
            "data.last_importance": float(last),
            "seed": seed,
            "steps": 5_000,
            **DECAYING_RATE,
        }
        for density in DENSITIES[::every]
        for last in IMPORTANCES[::every]
        for seed in range(4 if quick else 12)
    ]


def judge_phases(groups: Sequence[GroupResult]) -> Verdict:
    """Share of cells away from a boundary whose measured phase, the best of four seeds, is not the closed form's.

    Away: the closed form has one phase at the cell and at the eight points half a cell from it.
    """
    seen = final(groups)
    seed = np.concatenate([g.config.seed for g in groups])
    density, last = (
        np.concatenate([getattr(g.config.data, f) for g in groups]) for f in ("sparsity", "last_importance")
    )
    density = 1 - density
    loss = exact_losses(seen["W"], seen["b"], density, last)
    phase = np.asarray(phase_of_last(seen["W"]))
    cells = np.unique(np.stack([density, last]), axis=1)
    truth, away = true_phases(cells[0], cells[1])
    errors = []
    for repetition in range(seed.max() // 4 + 1):
        chosen = np.flatnonzero(seed // 4 == repetition)
        wrong = []
        for p, r, expected in zip(*cells[:, away], truth[away], strict=True):
            own = chosen[(density[chosen] == p) & (last[chosen] == r)]
            wrong.append(phase[own[np.argmin(loss[own])]] != expected)
        errors.append(np.mean(wrong))
    name = f"share of {away.sum()} cells away from a boundary in another phase"
    return verdict(name, np.array(errors), "at most .05 in every repetition", max(errors) <= 0.05)


def true_phases(density: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phase of least exact loss in each cell, and whether it is that of the points half a cell around it."""
    half = 0.5 * np.log(DENSITIES[1] / DENSITIES[0]), 0.5 * np.log(IMPORTANCES[1] / IMPORTANCES[0])
    around = [(i * half[0], j * half[1]) for i in (0, -1, 1) for j in (0, -1, 1)]
    p = np.concatenate([np.minimum(density * np.exp(i), 1.0) for i, _ in around])
    r = np.concatenate([last * np.exp(j) for _, j in around])
    phase = best_solutions(2, 1, p, r).phase.reshape(len(around), -1)
    return phase[0], (phase == phase[0]).all(0)


def final(groups: Sequence[GroupResult]) -> dict[str, np.ndarray]:
    """The last observation of all members of all groups."""
    last = [group.observations[max(group.observations)] for group in groups]
    return {name: np.concatenate([seen[name] for seen in last]) for name in last[0]}


def misses(W: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Distance of each feature's dimensionality from the nearest of `levels`; [R, S]."""
    return np.abs(np.asarray(feature_dimensionality(W))[..., None] - np.array(levels)).min(-1)


def largest_miss(W: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The largest of `misses` among represented features, 1 where there is none; [R]."""
    shown = np.asarray(represented(W))
    return np.where(shown.any(1), np.where(shown, misses(W, levels), 0.0).max(1), 1.0)


def verdict(error: str, values: np.ndarray, bar: str, passed: Any) -> Verdict:
    """A verdict from one error per seed or repetition."""
    mean, low, high = interval(values)
    return Verdict(error, mean, low, high, len(values), bar, bool(passed))
