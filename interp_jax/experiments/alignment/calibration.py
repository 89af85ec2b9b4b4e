"""Calibration of searches for subspaces: what they find where a variable's place and plane are known, and what elsewhere.

A relay holds its variable in a plane of 1 to 3 dimensions at one position after each layer. There a search must reach full
interchange accuracy by that plane and no other, "boundless" with as many dimensions as it has. Where the model still reads, but
the variable has not come yet, the source's class is independent of all that an interchange can bring: accuracy is a binomial
rate of 1 / (d + 1) exactly, tested as such, and so it is where labels are dealt out anew, but for their finite number.

What no accuracy shows is told beside it: along with a copy that nothing reads, a search mixes the two by a closed form.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from interp_jax.experiments.alignment.populations import (
    FIRST_FRESH,
    MODULE,
    TRUE_DIMENSIONS,
    Overrides,
    certifying,
    copied,
)
from interp_jax.experiments.alignment.scores import (
    Population,
    accuracy,
    chance,
    dimensions,
    excess,
    populations,
    right_of_one_each,
    share,
)
from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.config import compose
from interp_jax.experiments.experiment import GroupResult
from interp_jax.models.relay_circuit import AHEAD, HELD, mixed_share
from interp_jax.patching.alignment.config import VARIANTS
from interp_jax.results.tables import interval

LEAST_ACCURACY = 0.99
LEAST_SHARE = 0.98  # of the plane; k / D = 4% to 17% is chance
LEAST_EXACT = 0.95  # of boundless searches, in how many the number of dimensions is right
FROM_THEORY = 0.03  # of a share, where a copy takes part
MOST_STEERED = 0.1  # above chance, of a random-weights model
SIGNIFICANCE = 0.001
Judge = Callable[[Population], Verdict]


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    relays = f"relays of a variable of {TRUE_DIMENSIONS[0]} to {TRUE_DIMENSIONS[-1]} dimensions"
    there, ahead = f"{relays}: where it is held", f"{relays}: ahead of where it is"
    found = [
        row(f"{variant}, {what}", known, partial(certifying, variant), judge)
        for variant in VARIANTS
        for what, known, judge in (
            ("accuracy", there, judge_accuracy),
            ("subspace", there, judge_share),
            ("false alarms", ahead, partial(judge_chance, "learned", AHEAD)),
        )
    ]
    plainest = partial(certifying, VARIANTS[0])
    copies = "relays with a copy that nothing reads: (1 + 1/√(1 + b²)) / 2 of the plane"
    return [
        *found,
        row("boundless, dimensions", there, partial(certifying, "boundless"), judge_dimensions),
        row("shuffled labels", there, plainest, partial(judge_chance, "shuffled", HELD)),
        row("random subspaces", "k / D of any plane on average", plainest, judge_random),
        row("random-weights models", "no variable", plainest, judge_steered),
        row("a copy that nothing reads", copies, partial(copied, first=FIRST_FRESH), judge_copied),
    ]


def row(name: str, known: str, runs: Callable[[bool], Overrides], judge: Judge) -> Instrument:
    """An instrument whose judge reads the one population of its runs."""

    def configs(quick: bool) -> list[ConfigDict]:
        return [compose(MODULE, **overrides) for overrides in runs(quick)]

    def judge_groups(groups: Sequence[GroupResult]) -> Verdict:
        (population,) = populations(groups)
        return judge(population)

    return Instrument(f"alignment search: {name}", known, configs, judge_groups)


def judge_accuracy(population: Population) -> Verdict:
    """Interchange accuracy on held-out pairs."""
    found = accuracy(population, "learned", HELD)
    bar = f"at least {LEAST_ACCURACY:.0%} in every run"
    return verdict("interchange accuracy on held-out pairs", found, bar, found.min() >= LEAST_ACCURACY)


def judge_share(population: Population) -> Verdict:
    """How much of the plane is in the subspace."""
    found = share(population)
    bar = f"at least {LEAST_SHARE:.0%} in every run"
    return verdict("share of the true plane in the subspace", found, bar, found.min() >= LEAST_SHARE)


def judge_dimensions(population: Population) -> Verdict:
    """In how many searches the number of dimensions is right."""
    right = dimensions(population, HELD) == population.stated["dimensions"][:, None, None]
    found = right.mean((1, 2))
    bar = f"at least {LEAST_EXACT:.0%} on average"
    return verdict("share of searches with the true dimension", found, bar, found.mean() >= LEAST_EXACT)


def judge_chance(name: str, kind: str, population: Population) -> Verdict:
    """Whether accuracy is at chance, by one place of each run; the binomial test is of each dimension's rate by itself."""
    import scipy.stats  # takes a second

    held = []
    for d in np.unique(population.stated["dimensions"]).tolist():
        right = right_of_one_each(one := population.of_dimensions(d), name, kind)
        n = len(right) * one.config.held_out
        test = scipy.stats.binomtest(int(right.sum()), n, 1 / (1 + d), alternative="greater")
        held.append(test.pvalue >= SIGNIFICANCE)
    bar = f"0: a binomial test at p < {SIGNIFICANCE:g} rejects it for no d"
    return verdict("accuracy above 1 / (d + 1)", excess(population, name, kind), bar, all(held))


def judge_random(population: Population) -> Verdict:
    """The share of the plane in random subspaces of equal dimension, less its expectation."""
    import scipy.stats  # takes a second

    found = share(population, "shared_random") - population.stated["dimensions"] / population.config.width
    bar = f"0: a t-test at p < {SIGNIFICANCE:g} does not reject it"
    held = scipy.stats.ttest_1samp(found, 0.0).pvalue >= SIGNIFICANCE
    return verdict("share of the plane, less k / D", found, bar, held)


def judge_steered(population: Population) -> Verdict:
    """What searches reach in random-weights models, at the same places."""
    found = accuracy(population, "random_model", HELD) - chance(population)
    bar = f"at most {MOST_STEERED:g} in every run"
    return verdict("accuracy above 1 / (d + 1)", found, bar, found.max() <= MOST_STEERED)


def judge_copied(population: Population) -> Verdict:
    """How far the share of the plane is from the closed form, while accuracy is full."""
    expected = np.array([mixed_share(float(b)) for b in population.stated["bystander"]])
    found = np.abs(share(population) - expected)
    bar = f"at most {FROM_THEORY:g} in every run"
    return verdict("distance of the share of the plane from it", found, bar, found.max() <= FROM_THEORY)


def verdict(error: str, values: Float[np.ndarray, " R"], bar: str, passed: bool | np.bool_) -> Verdict:
    """A verdict from one value per run."""
    return Verdict(error, *interval(values), len(values), bar, bool(passed))
