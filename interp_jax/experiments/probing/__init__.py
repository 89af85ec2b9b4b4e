"""What can be read off a model's activations along its training, what its control reads, and whether the model uses it."""

from interp_jax.experiments.probing.page import report
from interp_jax.experiments.probing.runs import Config, experiment

__all__ = ["Config", "experiment", "report"]
