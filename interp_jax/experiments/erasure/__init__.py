"""Erasers, moments and reliance where what they should leave is planted."""

from interp_jax.experiments.erasure.runs import Config, experiment, report

__all__ = ["Config", "experiment", "report"]
