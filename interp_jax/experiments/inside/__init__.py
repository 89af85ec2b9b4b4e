"""Look inside one model on one prompt: a circuit built by hand, or published weights."""

from interp_jax.experiments.inside.page import report
from interp_jax.experiments.inside.runs import Config, experiment

__all__ = ["Config", "experiment", "report"]
