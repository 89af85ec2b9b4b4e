"""The experiment of `line` under another name."""

from tests.experiments.line import Config, experiment, report

__all__ = ["Config", "experiment", "report"]
