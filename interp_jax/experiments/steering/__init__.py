"""Steer a model towards comments, strings or deeper indentation, many ways, and measure what else that changes."""

from interp_jax.experiments.steering.config import Config
from interp_jax.experiments.steering.page import report
from interp_jax.experiments.steering.runs import experiment

__all__ = ["Config", "experiment", "report"]
