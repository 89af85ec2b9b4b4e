"""Exact patching and its estimates on models whose nodes are known: what each of them finds, and what it cannot see."""

from interp_jax.experiments.known_nodes.config import Config
from interp_jax.experiments.known_nodes.page import report
from interp_jax.experiments.known_nodes.runs import experiment

__all__ = ["Config", "experiment", "report"]
