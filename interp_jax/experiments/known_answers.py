"""Calibrations whose runs are a question and a seed: something is planted, an instrument is asked, and the answer is known.

Observed of a run: `found` and `truth`, [n]; its error is the largest difference of the two.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from interp_jax.errors import InputError, nearest
from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.experiment import Experiment, GroupResult, untrained
from interp_jax.results.blocks import Page, Section, TableBlock
from interp_jax.results.tables import Table, interval
from interp_jax.train.run import RunState

SEEDS, QUICK = 10, 2


class Told(NamedTuple):
    """What was found, and the truth; of as many numbers."""

    found: Float[Array | np.ndarray, " n"]
    truth: Float[Array | np.ndarray, " n"]


def told(*pairs: tuple[Any, Any]) -> Told:
    """Of pairs of what was found and its truth, a number or one for each; on the host, in float64."""
    both = [np.broadcast_arrays(np.ravel(found), np.ravel(np.float64(truth))) for found, truth in pairs]
    return Told(*(np.concatenate(side).astype(np.float64) for side in zip(*both, strict=True)))


def check_known(field: str, name: str, known: Collection[str]) -> None:
    """Raise `InputError` where a config's field names no question."""
    if name not in known:
        raise InputError(f"{field} = {name!r}: {nearest(name, known)}")


def asked(question: Callable[[int], Told], steps: int) -> Experiment:
    """The experiment that asks a question of each seed on the host; the run takes no step that changes anything."""

    def observe(state: RunState, hypers: Any, shared: Any) -> dict[str, Any]:
        return {}

    def analyse(state: RunState, hypers: Any, shared: Any) -> dict[str, np.ndarray]:
        return question(int(state.seed))._asdict()

    return Experiment(untrained(), observe, (steps,), analyse=analyse)


def errors(group: GroupResult) -> Float[np.ndarray, " R"]:
    """Of every run the largest difference of what was found from the truth."""
    seen = group.observations[max(group.observations)]
    return np.abs(np.asarray(seen["found"], np.float64) - seen["truth"]).max(1)


def errors_page(title: str, field: str, groups: Sequence[GroupResult]) -> Page:
    """A row for each question, which a field of the config names."""
    rows = [(getattr(group.config, field), interval(errors(group)), len(group.hashes)) for group in groups]
    caption = "Largest difference of any figure from what was planted."
    table = Table((field, "largest error", "seeds"), rows, caption)
    return Page(title, f"{len(rows)} {field}s.", [Section("Errors"), TableBlock(table)])


def instruments(
    what: str, module: str, rows: Mapping[str, tuple[str, float]], field: str = "question", seeds: int = SEEDS
) -> list[Instrument]:
    """Rows of the certificate.

    Args:
      what: the instrument, before the question's name.
      module: of the experiment.
      rows: by question, the truth in words, and the largest error that is allowed in any run.
      field: of the config, which names the question.
      seeds: of each.
    """
    configs = partial(seeded, module, field, seeds)
    return [
        Instrument(f"{what}: {name}", truth, partial(configs, name), partial(judge, bar))
        for name, (truth, bar) in rows.items()
    ]


def seeded(module: str, field: str, seeds: int, name: str, quick: bool) -> list[ConfigDict]:
    """Runs of a question."""
    return [compose(module, **{field: name, "seed": seed}) for seed in range(QUICK if quick else seeds)]


def judge(bar: float, groups: Sequence[GroupResult]) -> Verdict:
    """The largest error of any figure, by run."""
    found = np.concatenate([errors(group) for group in groups])
    mean, low, high = interval(found)
    held = bool(found.max() <= bar)
    return Verdict("largest error of a figure", mean, low, high, len(found), f"at most {bar:g} in every run", held)
