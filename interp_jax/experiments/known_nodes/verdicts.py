"""A row of the certificate: an instrument, its runs by their overrides, and the judge of what they found."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_nodes.populations import MODULE, Overrides
from interp_jax.experiments.known_nodes.scores import Population, populations
from interp_jax.results.tables import interval

Judge = Callable[[list[Population]], Verdict]


def row(name: str, known: str, runs: Callable[[bool], Overrides], judge: Judge) -> Instrument:
    """An instrument of patching whose judge reads populations."""

    def configs(quick: bool) -> list[ConfigDict]:
        return [compose(MODULE, **overrides) for overrides in runs(quick)]

    def judge_groups(groups: Sequence[GroupResult]) -> Verdict:
        return judge(populations(groups))

    return Instrument(f"patching: {name}", known, configs, judge_groups)


def verdict(error: str, values: Float[np.ndarray, " R"], bar: str, passed: bool | np.bool_) -> Verdict:
    """A verdict from one value per run."""
    mean, low, high = interval(values)
    return Verdict(error, mean, low, high, len(values), bar, bool(passed))


def largest(error: str, values: Float[np.ndarray, " R"], bar: float) -> Verdict:
    """A verdict from the largest error of each run."""
    return verdict(f"largest {error}", values, f"at most {bar:g} in every run", values.max() <= bar)


def one_each(called: Bool[np.ndarray, "R C"]) -> Bool[np.ndarray, " R"]:
    """One node of each run, in turn: nodes of one run depend on each other."""
    runs = np.arange(len(called))
    return called[runs, runs % called.shape[1]]


def at_most(rate: float, called: Bool[np.ndarray, " R"], significance: float = 0.001) -> bool:
    """Whether an exact binomial test does not reject a rate from above."""
    import scipy.stats  # takes a second

    test = scipy.stats.binomtest(int(called.sum()), len(called), rate, alternative="greater")
    return bool(test.pvalue >= significance)
