"""Rows of the certificate for questions whose answers are known."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_answers.runs import QUESTIONS, errors
from interp_jax.results.tables import interval

QUICK = 2  # seeds of a quick version


def instruments() -> list[Instrument]:
    """One for each question."""
    return [
        Instrument(name, one.truth, partial(configs, name), partial(judge, one.bar)) for name, one in QUESTIONS.items()
    ]


def configs(name: str, quick: bool) -> list[ConfigDict]:
    """Seeds of a question."""
    seeds = QUICK if quick else QUESTIONS[name].seeds
    return [compose("interp_jax.experiments.known_answers", question=name, seed=seed) for seed in range(seeds)]


def judge(bar: float, groups: Sequence[GroupResult]) -> Verdict:
    """The largest error of any figure, by run."""
    found = np.concatenate([errors(group) for group in groups])
    mean, low, high = interval(found)
    held = bool(found.max() <= bar)
    return Verdict("largest error of a figure", mean, low, high, len(found), f"at most {bar:g} in every run", held)
