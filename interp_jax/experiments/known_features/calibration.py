"""Calibration of dictionaries on features that are known: that each kind finds what can be found, and what its scores mean.

Where features are few and rare, so that theory lets all of them be told apart (Elhage et al. 2022: the interference of those
that are there stays below what one of them says), every kind must find the directions of all, and fire for them. Where features
are in trees, a plain dictionary absorbs parents into children, as planted, and Matryoshka does less.
"""

from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from interp_jax.dictionaries.config import WIDE_KERNEL
from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.dictionaries.told import NAMES
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_features.scores import Scores, Values, scores_of
from interp_jax.results.tables import interval
from interp_jax.train.run import ALIVE

MODULE = "interp_jax.experiments.known_features"
KINDS = ("standard", "p_anneal", "gated", "jumprelu", "topk", "batch_topk", "matryoshka", "matching_pursuit")
OF_TOYS = ("standard", "jumprelu", "batch_topk", "matryoshka")
PENALISED = ("standard", "p_anneal", "gated", "jumprelu")
OWN = {"jumprelu": {f"dictionary.{name}": value for name, value in WIDE_KERNEL.items()}}
LEAST_COSINE = 0.95
SEEDS = 5
RARE = {
    "data.n_features": 48, "data.d_model": 32, "data.exponent": 0.0, "data.p_first": 0.04, "data.p_last": 0.04,
    "data.rank": 1, "data.correlation": 0.0, "data.deviation": 0.25, "dictionary.d_in": 32, "dictionary.n_features": 48,
    "dictionary.most": 2, "dictionary.k": 2, "dictionary.target": 1.9, "dictionary.sparsity": 0.1,
    "dictionary.dead_after": 20_000, "steps": 4_000, "optimizer.learning_rate": 3e-3, "optimizer.decay": "cosine",
}  # fmt: skip
TREES = {
    "data.n_features": 60, "data.d_model": 64, "data.exponent": 0.0, "data.p_first": 0.15, "data.p_last": 0.15,
    "data.roots": 12, "data.children": 4, "data.depth": 1, "data.rank": 1, "data.correlation": 0.0, "data.deviation": 0.1,
    "dictionary.d_in": 64, "dictionary.n_features": 60, "dictionary.most": 3, "dictionary.k": 3,
    "dictionary.dead_after": 20_000, "steps": 4_000, "optimizer.learning_rate": 3e-3, "optimizer.decay": "cosine",
}  # fmt: skip
TOY = RARE | {
    "data.n_features": 40, "data.d_model": 20, "data.p_first": 0.05, "data.p_last": 0.05, "data.mean_first": 0.5,
    "data.mean_last": 0.5, "data.deviation": 0.29, "dictionary.d_in": 20, "dictionary.n_features": 40, "toy.steps": 4_000,
}  # fmt: skip
QUICK = {"steps": 20, "stream_steps": 10, "batch_size": 64, "measure.blocks": 2, "measure.examples": 128}


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    rare = "48 features in 32 dimensions, 1.9 of them in an example: all can be told apart"
    found = [row(f"{NAMES[kind]}, directions", rare, (kind,), RARE, judge_directions) for kind in KINDS]
    toys = "40 features in the 20 dimensions of a toy model of superposition that was grown on them"
    found += [row(f"toys, {NAMES[kind]}, directions", toys, (kind,), TOY, judge_directions) for kind in OF_TOYS]
    trees = "12 parents with 4 children each; children bring their parents along"
    return [
        *found,
        row("absorption, BatchTopK and Matryoshka", trees, ("batch_topk", "matryoshka"), TREES, judge_absorbed),
    ]


def row(
    what: str, known: str, kinds: Sequence[str], fixed: dict[str, object], judge: Callable[[list[Scores]], Verdict]
) -> Instrument:
    """An instrument on dictionaries of these kinds."""

    def configs(quick: bool) -> list[ConfigDict]:
        made = []
        for kind in kinds:
            own = OWN.get(kind, {}) | ({"dictionary.control": "l0"} if kind in PENALISED else {})
            quickly = QUICK if quick else {}
            made += [
                compose(MODULE, **{**fixed, **own, **quickly, "dictionary.kind": kind, "seed": seed})
                for seed in range(2 if quick else SEEDS)
            ]
        return made

    def judged(groups: Sequence[GroupResult]) -> Verdict:
        diverged = np.concatenate([group.diverged_at != ALIVE for group in groups])
        if diverged.any():
            return verdict("runs that became non-finite", diverged.astype(float), "none", False)
        return judge([scores_of(group) for kind in kinds for group in groups if group.config.dictionary.kind == kind])

    return Instrument(f"dictionaries: {what}", known, configs, judged)


def judge_directions(scores: list[Scores]) -> Verdict:
    """How far the best cosine of each true feature is from 1, on average."""
    found = 1 - np.concatenate([one.mean_max_cosine for one in scores])
    held = bool(found.max() <= 1 - LEAST_COSINE)
    return verdict("1 - mean max cosine", found, f"at most {1 - LEAST_COSINE:.2f} in every run", held)


def judge_absorbed(scores: list[Scores]) -> Verdict:
    """By how much less Matryoshka absorbs, seed by seed."""
    plain, nested = (one.absorbed for one in scores)
    found = plain - nested
    held = len(plain) == len(nested) and bool(interval(found).low > 0 and plain.min() > 0)
    return verdict(
        "absorbed by BatchTopK less by Matryoshka", found, "above 0, and BatchTopK absorbs in every run", held
    )


def verdict(error: str, found: Values, bar: str, passed: bool) -> Verdict:
    """The row's figures."""
    mean, low, high = interval(found)
    return Verdict(error, mean, low, high, len(found), bar, passed)
