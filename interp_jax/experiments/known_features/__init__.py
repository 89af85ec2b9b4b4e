"""Dictionaries on activations made of known features: what each kind recovers, at which sparsity (SynthSAEBench)."""

from interp_jax.experiments.known_features.config import Config
from interp_jax.experiments.known_features.page import report
from interp_jax.experiments.known_features.runs import experiment, reading, reads

__all__ = ["Config", "experiment", "reading", "reads", "report"]
