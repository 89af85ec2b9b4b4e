"""Populations of dictionaries on the activations of a model: what they reconstruct, and what the model loses by them."""

from interp_jax.experiments.dictionaries.config import Config
from interp_jax.experiments.dictionaries.page import report
from interp_jax.experiments.dictionaries.runs import experiment, reading, reads

__all__ = ["Config", "experiment", "reading", "reads", "report"]
