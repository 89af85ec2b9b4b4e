"""The examination: students of two rules that agree wherever one may look, and what tells who learned from who cheated."""

from interp_jax.experiments.exam.page import report
from interp_jax.experiments.exam.runs import Config, experiment

__all__ = ["Config", "experiment", "report"]
