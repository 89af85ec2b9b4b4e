"""Use, not presence: how a behaviour changes where what a probe reads is taken out ("amnesic probing", Elazar et al. 2021).

    effect_i  = m_i(clean) - m_i(erased)                     m the behaviour of example i: any number made of the model's logits
    control_i = mean over R random subspaces of equal rank of m_i(clean) - m_i(that one erased)
    excess_i  = effect_i - control_i

A model relies on a subspace where taking it out changes what it does by more than taking out a random one of equal rank does. A
concept that can be read but is not used has an excess of 0, however good its probe is.

Intervals. Effects: Student's, over examples. The excess varies with the examples and with the subspaces drawn,

    half² = t(B-1)² var_i(excess_i) / B + t(R-1)² var_r(mean_i of effect_ir) / R          t: Student's quantiles

which holds the truth at least as often as it says, however few are drawn (Banerjee 1960). It is about this subspace. Whether
what any other one costs may be as much is asked by p: that of the permutation test, (1 + how many of the R change the behaviour
as much or more, either way) / (R + 1); or, of few draws, `outlier_p`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from interp_jax.errors import InputError
from interp_jax.probes.removal import Measured

LEAST_DRAWS = 2


class MeanInterval(NamedTuple):
    """A mean and an interval that covers it."""

    mean: Float[np.ndarray, "*S"]
    low: Float[np.ndarray, "*S"]
    high: Float[np.ndarray, "*S"]


class Reliance(NamedTuple):
    """See the module.

    Attributes:
      clean: the mean behaviour.
      effect, control, excess: of subspaces.
      p: of subspaces.
      draws: R.
    """

    clean: float
    effect: MeanInterval
    control: MeanInterval
    excess: MeanInterval
    p: Float[np.ndarray, " S"]
    draws: int


def reliance(found: Measured, level: float = 0.95) -> Reliance:
    """Effects, controls, and what the first have beyond the second.

    Raises:
      InputError: fewer than two examples or draws; a level outside (0, 1).
    """
    effect, control = found.clean - found.erased, found.clean - found.control
    draws, _, n = control.shape
    if n < 2 or draws < LEAST_DRAWS:
        raise InputError(f"reliance over {n} example(s) and {draws} random subspace(s): give at least 2 of each")
    if not 0 < level < 1:
        raise InputError(f"level = {level}: must lie between 0 and 1")
    of_draws, of_examples = control.mean(-1), control.mean(0)
    as_large = (np.abs(of_draws) >= np.abs(effect.mean(-1))).sum(0)
    return Reliance(
        float(found.clean.mean()),
        over_examples(effect, level),
        over_both(of_examples, of_draws, level),
        over_both(effect - of_examples, of_draws, level),
        (1 + as_large) / (1 + draws),
        draws,
    )


def over_examples(effects: Float[np.ndarray, "S B"], level: float) -> MeanInterval:
    """Student's interval."""
    n = effects.shape[-1]
    return around(effects.mean(-1), [(effects.var(-1, ddof=1) / n, n - 1)], level)


def over_both(examples: Float[np.ndarray, "S B"], draws: Float[np.ndarray, "R S"], level: float) -> MeanInterval:
    """The interval of a mean that varies with examples and with draws; see the module."""
    n, m = examples.shape[-1], len(draws)
    return around(examples.mean(-1), [(examples.var(-1, ddof=1) / n, n - 1), (draws.var(0, ddof=1) / m, m - 1)], level)


def outlier_p(examples: Float[np.ndarray, "S B"], draws: Float[np.ndarray, "R S"]) -> Float[np.ndarray, " S"]:
    """P that one more random subspace would cost as much, one-sided: costs of random subspaces are taken to be normal.

    m² = t_p(B-1)² var_i(excess_i) / B + t_p(R-1)² var_r (1 + 1/R)          m the mean of excess_i; p > ½ where m < 0

    Args:
      examples: excess_i of subspaces.
      draws: means of effect_ir.
    """
    n, m = examples.shape[-1], len(draws)
    mean = examples.mean(-1)
    parts = [(examples.var(-1, ddof=1) / n, n - 1), (draws.var(0, ddof=1) * (1 + 1 / m), m - 1)]
    low, high = np.zeros(mean.shape), np.full(mean.shape, 0.5)
    for _ in range(50):
        p = (low + high) / 2
        beyond = np.abs(mean) > reach(parts, p)
        low, high = np.where(beyond, low, p), np.where(beyond, p, high)
    return np.where(mean > 0, high, 1 - high)


def around(mean: np.ndarray, parts: list[tuple[np.ndarray, int]], level: float) -> MeanInterval:
    """Mean ± the reach of its variances."""
    half = reach(parts, np.asarray((1 - level) / 2))
    return MeanInterval(mean, mean - half, mean + half)


def reach(parts: list[tuple[np.ndarray, int]], tail: np.ndarray) -> np.ndarray:
    """√ Σ t² variance, of variances and their degrees of freedom, with so much in each tail."""
    import scipy.special  # takes a moment, which whoever needs no intervals need not wait for

    return np.sqrt(sum(scipy.special.stdtrit(freedom, 1 - tail) ** 2 * variance for variance, freedom in parts))


def relied_on(found: Reliance, alpha: float = 0.05) -> Bool[np.ndarray, " S"]:
    """Whether the behaviour is worse without the subspace than without random ones: p ≤ α, and the excess above 0.

    Needs at least 1/α - 1 draws; with fewer no p can be so small.
    """
    return (found.p <= alpha) & (found.excess.low > 0)
