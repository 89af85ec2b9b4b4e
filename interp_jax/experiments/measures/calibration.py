"""Calibration of the measures of dictionaries: where what they should say is planted, they say that."""

from functools import partial

from ml_collections import ConfigDict

from interp_jax.experiments.calibration import Instrument
from interp_jax.experiments.config import compose
from interp_jax.experiments.known_answers.calibration import QUICK, judge

SEEDS = 10

# the truth in words, and the largest error: what is counted without error has that of rounding, what is a guess that of chance
ROWS = {
    "sparse probing": ("concepts in two features each, that of one, of both, of shuffled labels", 0.05),
    "splitting and absorption": ("letters with two features each, a fifth of whose tokens are absorbed", 0.01),
    "probe perturbation": ("concepts with two features each: 1/2 is lost, and nothing of others", 0.02),
    "removal of spurious correlations": ("a probe that follows another concept: a guess, and cured of it", 0.08),
    "interchange": ("features of values: 1 and 1; of combinations of values: 1 and 0", 0.01),
    "meta-dictionary": ("rows that are sums of one to three of 16 parts: mean max cosine 1", 0.05),
    "stability": ("three quarters of the features in common; chance in closed form", 0.02),
    "descriptions": ("features that are sets of tokens, told by these, or by others: 1, 1/2", 0.12),
}


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    return [
        Instrument(f"dictionaries, measured: {name}", truth, partial(configs, name), partial(judge, bar))
        for name, (truth, bar) in ROWS.items()
    ]


def configs(measure: str, quick: bool) -> list[ConfigDict]:
    """Seeds of a measure."""
    seeds = range(QUICK if quick else SEEDS)
    return [compose("interp_jax.experiments.measures", measure=measure, seed=seed) for seed in seeds]
