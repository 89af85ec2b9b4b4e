"""Something is planted, an instrument is asked, and the answer is known: erasure, steering, diagnosis."""

from interp_jax.experiments.known_answers.runs import Config, experiment, report

__all__ = ["Config", "experiment", "report"]
