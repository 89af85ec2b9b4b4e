"""Steering where the direction that a model reads is known."""

from interp_jax.experiments.known_directions.runs import Config, experiment, report

__all__ = ["Config", "experiment", "report"]
