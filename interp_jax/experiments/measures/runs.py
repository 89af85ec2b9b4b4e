"""A run is a measure and a seed: a dictionary is planted, and measured. Observed: `found` and `truth`, [n]; see `planted`."""

from typing import Any

import numpy as np

from interp_jax.experiments.experiment import Experiment, GroupResult, untrained
from interp_jax.experiments.known_answers.question import check_known
from interp_jax.experiments.known_answers.runs import errors_page
from interp_jax.experiments.measures.planted import ON_HOST, PURE, key_of
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page
from interp_jax.train.run import RunState

MEASURES = (*PURE, *ON_HOST)


@part
class Config:
    """One planted dictionary; the run takes no step that changes anything."""

    seed: int = hyper(0)
    steps: int = 1
    measure: str = MEASURES[0]

    def check(self) -> None:
        """Raise `InputError` for an unknown measure."""
        check_known("measure", self.measure, MEASURES)


def experiment(config: Config) -> Experiment:
    """What is planted by each seed, measured."""
    measure = config.measure

    def observe(state: RunState, hypers: Config, shared: Any) -> dict[str, Any]:
        return PURE[measure](key_of(state.seed, measure))._asdict() if measure in PURE else {}

    def analyse(state: RunState, hypers: Config, shared: Any) -> dict[str, np.ndarray]:
        return ON_HOST[measure](key_of(int(state.seed), measure))._asdict()

    return Experiment(untrained(), observe, (config.steps,), analyse=analyse if measure in ON_HOST else None)


def report(groups: list[GroupResult]) -> Page:
    """A row for each measure."""
    return errors_page("Measures of planted dictionaries", "measure", groups)
