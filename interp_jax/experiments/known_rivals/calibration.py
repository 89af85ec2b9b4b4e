"""Calibration of diagnosers and cures: where rule and shortcut are built by hand, they find what is there, and no more."""

from interp_jax.experiments import known_answers
from interp_jax.experiments.calibration import Instrument

SEEDS = 3
# the truth in words, and the largest error: that of rounding in float32, or of the labels that a trial happens to draw
ROWS = {
    "who is blind": ("scores that ignore the rule, or cannot see what is used: mirrored AUROC 1/2", 1e-6),
    "who and where": (
        "profiles of positions: AUROC and average precision 1, and the cue's share in closed form",
        1e-5,
    ),
    "what parts do": ("one head and one position carry the cue, and nothing else does", 1e-4),
    "the knife": (
        "the cue is cut: the rule is back, its divergence and score in closed form; who never learned",
        0.03,
    ),
}


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    return known_answers.instruments("diagnosis", "interp_jax.experiments.known_rivals", ROWS, seeds=SEEDS)
