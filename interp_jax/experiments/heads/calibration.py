"""Calibration of what is said of heads: exact on a circuit built by hand, silent on random weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from interp_jax.anatomy.composition import composition_scores, random_composition
from interp_jax.anatomy.head_circuits import copying_score
from interp_jax.anatomy.heads import HeadScores, repeated_head_scores, uniform_pattern
from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.heads.runs import Config, expected_scores, model
from interp_jax.results.tables import interval

MODULE = "interp_jax.experiments.heads"
SHARPNESS = (1.0, 4.0, 16.0)
LARGEST_ERROR = 1e-5  # float32 through two layers
CHANCE_ERROR = 0.1  # of a composition score at chance: less would be told from chance by no one
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
        Instrument(
            "copying and composition",
            "the same circuit: head 1.0 copies, its keys compose with head 0.0 (1/√V), nothing else does",
            lambda quick: _configs(quick, "circuit", SHARPNESS),
            judge_circuits,
        ),
        Instrument(
            "composition, false alarms",
            "random weights: a root mean square of 1/√D",
            lambda quick: _configs(quick, "random", SHARPNESS[:1]),
            judge_random_composition,
        ),
        Instrument(
            "direct logit attribution",
            "the same circuit: head 1.0 says all of the difference between two next tokens",
            lambda quick: _configs(quick, "circuit", SHARPNESS),
            judge_attribution,
        ),
    ]


def judge_circuit(groups: Sequence[GroupResult]) -> Verdict:
    """The largest error of any head's score, against float64 by the circuit's definition."""
    errors = []
    for group in groups:
        last = final(group)
        for i, tokens in enumerate(last["tokens"]):
            truth = expected_scores(tokens, group.config.sharpness)
            errors.append(max(np.abs(last[kind][i] - getattr(truth, kind)).max() for kind in HeadScores._fields))
    return _verdict("largest error of a score", errors, LARGEST_ERROR)


def judge_random(groups: Sequence[GroupResult]) -> Verdict:
    """How far the strongest head of any kind exceeds a head that looks everywhere alike."""
    excess = []
    for group in groups:
        last = final(group)
        chance = repeated_head_scores(uniform_pattern(2 * group.config.period), group.config.period)
        levels = {kind: float(getattr(chance, kind)[0, 0]) for kind in HeadScores._fields}
        for i in range(len(group.hashes)):
            excess.append(max(float(last[kind][i].max()) - levels[kind] for kind in HeadScores._fields))
    return _verdict("score above a uniform head's", excess, FALSE_ALARM)


def judge_circuits(groups: Sequence[GroupResult]) -> Verdict:
    """The largest error of any copying or composition score."""
    errors = []
    for config, seed in _runs(groups):
        zero, copies, keys = np.zeros((2, 2, 2, 2)), np.zeros((2, 2)), np.zeros((2, 2, 2, 2))
        copies[1, 0] = 1.0
        keys[0, 0, 1, 0] = config.d_vocab**-0.5  # what 0.0 writes and what 1.0's keys read: identities of rank V
        truth, weights = {"copying": copies, "q": zero, "k": keys, "v": zero}, model(config, seed)
        found = {"copying": copying_score(*weights), **composition_scores(*weights)._asdict()}
        errors.append(max(np.abs(found[name] - truth[name]).max() for name in truth))
    return _verdict("largest error of a score", errors, LARGEST_ERROR)


def judge_random_composition(groups: Sequence[GroupResult]) -> Verdict:
    """How far the root mean square of a run's composition scores is from chance, relative to chance."""
    errors = []
    for config, seed in _runs(groups):
        params, cfg = model(config, seed)
        scores = np.stack([kind[0, :, 1, :] for kind in composition_scores(params, cfg)])
        errors.append(abs(np.sqrt(np.square(scores).mean()) / random_composition(cfg.d_model) - 1))
    return _verdict("relative error of the root mean square", errors, CHANCE_ERROR)


def _runs(groups: Sequence[GroupResult]) -> list[tuple[Config, int]]:
    """Each run's config and seed: what its weights say follows from these alone."""
    return [(group.config, int(seed)) for group in groups for seed in group.config.seed]


def judge_attribution(groups: Sequence[GroupResult]) -> Verdict:
    """The largest error of what any head, or all else, is said to say, relative to the true difference."""
    errors = []
    for seen in map(final, groups):
        truth = np.zeros_like(seen["said"])
        truth[..., 1, 0] = seen["difference"]
        wrong = np.maximum(np.abs(seen["said"] - truth).max((2, 3)), np.abs(seen["rest"]))
        errors += list((wrong / np.abs(seen["difference"])).max(1))
    return _verdict("largest relative error", errors, LARGEST_ERROR)


def final(group: GroupResult) -> dict[str, np.ndarray]:
    """The last observation."""
    return list(group.observations.values())[-1]


def _verdict(error: str, values: Sequence[Any], bar: float) -> Verdict:
    values = [float(v) for v in values]
    mean, low, high = interval(values)
    return Verdict(error, mean, low, high, len(values), f"at most {bar:g} in every run", bool(max(values) <= bar))


def _configs(quick: bool, weights: str, sharpness: Sequence[float]) -> list[ConfigDict]:
    seeds = range(N_QUICK if quick else N_SEEDS)
    return [compose(MODULE, weights=weights, sharpness=s, seed=seed) for s in sharpness for seed in seeds]
