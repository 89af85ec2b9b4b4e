"""Probes where it is planted what can be read, how well, and whether it is used."""

from interp_jax.experiments.known_signals.runs import Config, experiment, report

__all__ = ["Config", "experiment", "report"]
