"""A run is a question and a seed. Observed: `found` and `truth`, [n]; its error is the largest difference of the two."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from interp_jax.experiments.experiment import Experiment, GroupResult, untrained
from interp_jax.experiments.known_answers import diagnosis, erasure, steering
from interp_jax.experiments.known_answers.question import check_known
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page, Section, TableBlock
from interp_jax.results.tables import Table, interval
from interp_jax.train.run import RunState

SUBJECTS = {"erasure": erasure, "steering": steering, "diagnosis": diagnosis}
QUESTIONS = {f"{subject}: {name}": one for subject, of in SUBJECTS.items() for name, one in of.QUESTIONS.items()}


@part
class Config:
    """What is planted once; the run takes no step that changes anything."""

    seed: int = hyper(0)
    steps: int = 1
    question: str = next(iter(QUESTIONS))

    def check(self) -> None:
        """Raise `InputError` for an unknown question."""
        check_known("question", self.question, QUESTIONS)


def experiment(config: Config) -> Experiment:
    """What is planted by each seed, asked on the host."""

    def observe(state: RunState, hypers: Config, shared: Any) -> dict[str, Any]:
        return {}

    def analyse(state: RunState, hypers: Config, shared: Any) -> dict[str, np.ndarray]:
        return QUESTIONS[config.question].ask(int(state.seed))._asdict()

    return Experiment(untrained(), observe, (config.steps,), analyse=analyse)


def errors(group: GroupResult) -> Float[np.ndarray, " R"]:
    """Of every run the largest difference of what was found from the truth."""
    seen = group.observations[max(group.observations)]
    return np.abs(np.asarray(seen["found"], np.float64) - seen["truth"]).max(1)


def report(groups: Sequence[GroupResult]) -> Page:
    """A row for each question."""
    return errors_page("Known answers", "question", groups)


def errors_page(title: str, field: str, groups: Sequence[GroupResult]) -> Page:
    """A row for each question, which a field of the config names."""
    rows = [(getattr(group.config, field), interval(errors(group)), len(group.hashes)) for group in groups]
    caption = "Largest difference of any figure from what was planted."
    table = Table((field, "largest error", "seeds"), rows, caption)
    return Page(title, f"{len(rows)} {field}s.", [Section("Errors"), TableBlock(table)])
