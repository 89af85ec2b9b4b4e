"""Head scores where they are known: a circuit built by hand, and random weights."""

from interp_jax.experiments.heads.runs import Config, experiment, report

__all__ = ["Config", "experiment", "report"]
