"""A small transformer grown on real text, watched while its heads form (Elhage et al. 2021; Olsson et al. 2022)."""

from interp_jax.experiments.grow.page import report
from interp_jax.experiments.grow.runs import experiment
from interp_jax.experiments.grow.stream import Config

__all__ = ["Config", "experiment", "report"]
