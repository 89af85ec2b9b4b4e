"""Activations of a grown model, harvested once and kept on disk for dictionaries to be trained on."""

from interp_jax.experiments.store.config import Config
from interp_jax.experiments.store.page import report
from interp_jax.experiments.store.runs import experiment

__all__ = ["Config", "experiment", "report"]
