"""One run as the report sees it."""

from typing import Any, NamedTuple

import numpy as np

from interp_jax.experiments.steering.config import Config
from interp_jax.experiments.steering.findings import Arrays, Score
from interp_jax.results.tables import Interval


class View(NamedTuple):
    """One run as the report sees it: its config, what was observed, and names."""

    config: Config
    arrays: Arrays
    about: dict[str, Any]

    @property
    def targets(self) -> list[str]:
        """Their names."""
        return [target["name"] for target in self.about["targets"]]

    def unsteered(self, t: int) -> float:
        """The log-probability of a class without an edit, a mean over decision points."""
        return float(self.arrays["before"][t].sum() / self.arrays["weights"][0, t].sum())


def cell(score: Score, *at: int | np.integer) -> Interval:
    """A score in a table."""
    return Interval(*(float(x[at]) for x in score[:3]))
