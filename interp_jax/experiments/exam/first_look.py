"""The examination by its cheapest diagnosers alone, for newcomers: everything else is that of `exam`."""

from interp_jax.diagnosis.diagnosers_io import every_diagnoser
from interp_jax.experiments.exam.page import reported
from interp_jax.experiments.exam.runs import Config, experiment
from interp_jax.experiments.experiment import GroupResult
from interp_jax.results.blocks import Page

__all__ = ["Config", "experiment", "report"]

MOST = 3  # forward passes over the examples, about


def report(groups: list[GroupResult]) -> Page:
    """See `page.report`."""
    return reported(groups, [one for one in every_diagnoser() if one.cost <= MOST and one.fit is None])
