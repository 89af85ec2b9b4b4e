"""Pages of a dictionary's features: where each fires, what it makes likely, what it does when it is clamped."""

from interp_jax.experiments.features.config import Config
from interp_jax.experiments.features.page import report
from interp_jax.experiments.features.runs import experiment

__all__ = ["Config", "experiment", "report"]
