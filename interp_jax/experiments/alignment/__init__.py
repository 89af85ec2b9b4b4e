"""Searches for subspaces where the true one is known: whether they find it, and nothing elsewhere."""

from interp_jax.experiments.alignment.config import Config
from interp_jax.experiments.alignment.page import report
from interp_jax.experiments.alignment.runs import experiment

__all__ = ["Config", "experiment", "report"]
