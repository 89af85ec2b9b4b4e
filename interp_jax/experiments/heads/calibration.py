"""Calibration of the head scores: exact on a circuit built by hand, silent on random weights."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from interp_jax.anatomy.heads import HeadScores, repeated_head_scores, uniform_pattern
from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.heads.runs import expected_scores
from interp_jax.results.tables import interval

MODULE = "interp_jax.experiments.heads"
SHARPNESS = (1.0, 4.0, 16.0)
LARGEST_ERROR = 1e-5  # float32 through two layers
FALSE_ALARM = 0.1  # a score so far above a uniform head's would pass for a kind of head
N_SEEDS, N_QUICK = 20, 2


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    return [
        Instrument(
            "head scores",
            "previous-token, duplicate and induction heads of a two-layer circuit built by hand, blunt to sharp",
            lambda quick: _configs(quick, "circuit", SHARPNESS),
            judge_circuit,
        ),
        Instrument(
            "head scores, false alarms",
            "random weights: no head of any kind",
            lambda quick: _configs(quick, "random", SHARPNESS[:1]),
            judge_random,
        ),
    ]


def judge_circuit(groups: Sequence[GroupResult]) -> Verdict:
    """The largest error of any head's score, against float64 by the circuit's definition."""
    errors = []
    for group in groups:
        last = list(group.observations.values())[-1]
        for i, tokens in enumerate(last["tokens"]):
            truth = expected_scores(tokens, group.config.sharpness)
            errors.append(max(np.abs(last[kind][i] - getattr(truth, kind)).max() for kind in HeadScores._fields))
    mean, low, high = interval(errors)
    bar = f"at most {LARGEST_ERROR:g}"
    return Verdict("largest error of a score", mean, low, high, len(errors), bar, max(errors) <= LARGEST_ERROR)


def judge_random(groups: Sequence[GroupResult]) -> Verdict:
    """How far the strongest head of any kind exceeds a head that looks everywhere alike."""
    excess = []
    for group in groups:
        last = list(group.observations.values())[-1]
        chance = repeated_head_scores(uniform_pattern(2 * group.config.period), group.config.period)
        levels = {kind: float(getattr(chance, kind)[0, 0]) for kind in HeadScores._fields}
        for i in range(len(group.hashes)):
            excess.append(max(float(last[kind][i].max()) - levels[kind] for kind in HeadScores._fields))
    mean, low, high = interval(excess)
    bar = f"at most {FALSE_ALARM:g} in every run"
    return Verdict("score above a uniform head's", mean, low, high, len(excess), bar, max(excess) <= FALSE_ALARM)


def _configs(quick: bool, weights: str, sharpness: Sequence[float]) -> list[ConfigDict]:
    seeds = range(N_QUICK if quick else N_SEEDS)
    return [compose(MODULE, weights=weights, sharpness=s, seed=seed) for s in sharpness for seed in seeds]
