"""Learned or cheated, where both are built by hand."""

from interp_jax.experiments.known_rivals.runs import Config, experiment, report

__all__ = ["Config", "experiment", "report"]
