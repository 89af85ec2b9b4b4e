"""A run is a signal and a seed: activations are planted, and read.

Observed of a reading are `name`, `found` and `truth` of its figures, [n]; of a rate, `outcome` of as many draws as it has.
"""

from typing import Any

import jax
import numpy as np

from interp_jax import randomness
from interp_jax.experiments.experiment import Experiment, GroupResult, untrained
from interp_jax.experiments.known_answers.question import check_known
from interp_jax.experiments.known_signals.rates import RATES
from interp_jax.experiments.known_signals.readings import READINGS
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page, Section, TableBlock, Text
from interp_jax.results.tables import Table, interval
from interp_jax.train.run import RunState

SIGNALS = (*READINGS, *RATES)


@part
class Config:
    """One draw of a signal, or of many for a rate; the run takes no step that changes anything."""

    seed: int = hyper(0)
    steps: int = 1
    signal: str = SIGNALS[0]

    def check(self) -> None:
        """Raise `InputError` for an unknown signal."""
        check_known("signal", self.signal, SIGNALS)


def experiment(config: Config) -> Experiment:
    """What is planted by each seed, read."""

    def analyse(state: RunState, hypers: Config, shared: Any) -> dict[str, np.ndarray]:
        return read(config.signal, int(state.seed))

    return Experiment(untrained(), lambda state, hypers, shared: {}, (config.steps,), analyse=analyse)


def read(signal: str, seed: int) -> dict[str, np.ndarray]:
    """What is observed of a signal."""
    keys = jax.random.split(randomness.key(seed, f"known signals/{signal}"))
    if signal in RATES:
        return {"outcome": RATES[signal](keys)}
    figures = READINGS[signal](keys)
    found, truth = np.array(list(figures.values()), np.float64).T
    return {"name": np.array(list(figures)), "found": found, "truth": truth}


def seen(group: GroupResult) -> dict[str, np.ndarray]:
    """What was observed, with a leading axis of runs."""
    return group.observations[max(group.observations)]


def report(groups: list[GroupResult]) -> Page:
    """A table of figures beside their truth, and one of rates."""
    figures, rates = [], []
    for group in groups:
        signal, now = group.config.signal, seen(group)
        if signal in RATES:
            rates.append((signal, now["outcome"].mean(), now["outcome"].size))
            continue
        for name, found, truth in zip(now["name"][0], now["found"].T, now["truth"].T, strict=True):
            figures.append(
                (signal, str(name), interval(found), float(truth.mean()), float(np.abs(found - truth).max()))
            )
    return Page(
        "Probes of planted signals",
        f"{len(groups)} signals of which it is written down what can be read.",
        [
            Section("Figures"),
            TableBlock(
                Table(
                    ("signal", "figure", "found", "truth", "largest error"), figures, "Intervals are 95%, over seeds."
                )
            ),
            Section("Rates"),
            Text(
                "A 95% interval is to hold the truth in 95% of draws, and where there is no signal to leave 0 out in 5%."
            ),
            TableBlock(Table(("signal", "rate", "draws"), rates)),
        ],
    )
