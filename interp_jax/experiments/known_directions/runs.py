"""A run is a question and a seed: a direction is planted, and steered. Observed: `found` and `truth`, [n]; see `planted`."""

from interp_jax.experiments.experiment import Experiment, GroupResult
from interp_jax.experiments.known_answers import asked, check_known, errors_page
from interp_jax.experiments.known_directions.planted import QUESTIONS
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page


@part
class Config:
    """One model built by hand; the run takes no step that changes anything."""

    seed: int = hyper(0)
    steps: int = 1
    question: str = next(iter(QUESTIONS))

    def check(self) -> None:
        """Raise `InputError` for an unknown question."""
        check_known("question", self.question, QUESTIONS)


def experiment(config: Config) -> Experiment:
    """What is planted by each seed, asked on the host."""
    return asked(QUESTIONS[config.question], config.steps)


def report(groups: list[GroupResult]) -> Page:
    """A row for each question."""
    return errors_page("Steering along what is planted", "question", groups)
