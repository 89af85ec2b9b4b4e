"""Toy models of superposition: populations over sparsity, importance and seeds (Elhage et al. 2022)."""

from interp_jax.experiments.superposition.page import report
from interp_jax.experiments.superposition.runs import Config, experiment

__all__ = ["Config", "experiment", "report"]
