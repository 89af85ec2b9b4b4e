"""A run is a question and a seed: a direction is planted, and steered. Observed: `found` and `truth`, [n]; see `planted`."""

from typing import Any

import numpy as np

from interp_jax.errors import InputError, nearest
from interp_jax.experiments.experiment import Experiment, GroupResult, untrained
from interp_jax.experiments.known_directions.planted import QUESTIONS
from interp_jax.experiments.measures.runs import errors
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page, Section, TableBlock
from interp_jax.results.tables import Table, interval
from interp_jax.train.run import RunState


@part
class Config:
    """One model built by hand; the run takes no step that changes anything."""

    seed: int = hyper(0)
    steps: int = 1
    question: str = next(iter(QUESTIONS))

    def check(self) -> None:
        """Raise `InputError` for an unknown question."""
        if self.question not in QUESTIONS:
            raise InputError(f"question = {self.question!r}: {nearest(self.question, QUESTIONS)}")


def experiment(config: Config) -> Experiment:
    """What is planted by each seed, asked on the host."""

    def observe(state: RunState, hypers: Config, shared: Any) -> dict[str, Any]:
        return {}

    def analyse(state: RunState, hypers: Config, shared: Any) -> dict[str, np.ndarray]:
        return QUESTIONS[config.question](int(state.seed))._asdict()

    return Experiment(untrained(), observe, (config.steps,), analyse=analyse)


def report(groups: list[GroupResult]) -> Page:
    """A row for each question."""
    rows = [(group.config.question, interval(errors(group)), len(group.hashes)) for group in groups]
    table = Table(
        ("question", "largest error", "seeds"), rows, "Largest difference of any figure from what was planted."
    )
    return Page("Steering along what is planted", f"{len(rows)} questions.", [Section("Errors"), TableBlock(table)])
