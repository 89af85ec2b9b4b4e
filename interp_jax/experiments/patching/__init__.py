"""Which activations cause a behaviour: exact patches, paths and estimates on one model and one task."""

from interp_jax.experiments.patching.config import Config
from interp_jax.experiments.patching.page import report
from interp_jax.experiments.patching.runs import experiment

__all__ = ["Config", "experiment", "report"]
