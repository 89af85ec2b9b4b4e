"""Measures of dictionaries where what they should say is planted."""

from interp_jax.experiments.measures.runs import Config, experiment, report

__all__ = ["Config", "experiment", "report"]
