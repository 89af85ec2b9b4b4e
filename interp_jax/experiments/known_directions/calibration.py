"""Calibration of steering: where the direction that a model reads is planted, methods find what they should, and no more."""

from interp_jax.experiments import known_answers
from interp_jax.experiments.calibration import Instrument

# the truth in words, and the largest error: that of 4,000 examples, or of rounding in float32 and float64
ROWS = {
    "what correlates": (
        "a direction and its unread copy: |cos| of means, pairs and a probe 1/√2; of recentred pairs 0", 0.02),
    "what causes": ("the same: gradient, Fisher's matrix, the targeted direction and its effect in closed form", 1e-5),
    "dose and response": ("log-probabilities and divergences at all doses, in closed form", 1e-4),
    "gates": ("each prompt by itself is steered, or not: log-probabilities in closed form", 1e-5),
    "weight edits": ("keys and values: exact, orthogonal keys unchanged, batches least squares in float64", 1e-9),
}  # fmt: skip


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    return known_answers.instruments("steering", "interp_jax.experiments.known_directions", ROWS)
