"""Calibration of erasure: where what can be read, and what is used, are planted, erasers leave what they should."""

from interp_jax.experiments import known_answers
from interp_jax.experiments.calibration import Instrument

# the truth in words, and the largest error: that of counting over 4,000 examples and of fitting to as many, or of rounding
ROWS = {
    "least change": ("a linear concept: LEACE leaves the discriminant a guess", 0.04),
    "orthogonal": ("a linear concept: the orthogonal projection leaves a guess", 0.04),
    "null-space projection": ("a linear concept: what three rounds leave, in closed form", 0.04),
    "projection": ("a linear concept: what the probe's own direction leaves, in closed form", 0.04),
    "random subspace": ("a linear concept: what a random direction leaves, in closed form", 0.03),
    "transport": (
        "a quadratic concept: LEACE leaves what the likelihood ratio reads, transport (QLEACE) a guess",
        0.05,
    ),
    "scrubbing": (
        "a model that computes the concept anew at every layer: erasers in order leave a guess at each",
        0.05,
    ),
    "moments": ("means a hundred times the spread: covariances as in float64, in units of variances", 1e-6),
    "reliance": ("two directions that tell the answer, of which the model reads one", 0.1),
    "intervals": ("95% intervals of effects, and of excesses at least that, over 2,000 draws", 0.0161),
}


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    return known_answers.instruments("erasure", "interp_jax.experiments.erasure", ROWS)
