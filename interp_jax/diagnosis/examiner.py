"""The combined examiner: what several diagnosers say of one entry, as one number; other families gave scales and weights.

    s_k     (a diagnoser's score - c_k) / σ_k, cut at ±3            of a model with a rule declared
    c_k     the middle between the two groups into which the scores of all models of the family with that rule declared fall
            best (one-dimensional 2-means), whoever they are: no label is used, and no entry of the other rule
    σ_k     root mean square of what is left about c_k, over other families: scores are of no unit and mean the same everywhere,
            so where all of them lie close together they say little, and are not to be blown up to ranks
    score   Σ_k w_k s_k        w_k ≥ 0, as signs are fixed in advance
    w       argmin  1/τ log mean_F exp(τ L_F) + λ Σ_k w_k        F the other families; y = 1 a cheat, else -1
    L_F     mean over its entries of log(1 + exp(-y Σ_k w_k s_k))

With τ the family that is judged worst counts most, as in group distributionally robust optimisation (Sagawa et al. 2020): what
is right on average and fails in one family is of little use in one that nobody has seen. λ keeps few diagnosers.
A diagnoser that ignores the declared rule has each s once with either y, is noise, and takes no part. Nor does one that says
something else where f is told by other variables: a rule may be computed in more than one way, and who computes it in one that
was not thought of is no cheat. What is judged is a family that took no part in the fit, nor in who takes part. Diagnosers of
tier 3 are a skyline and no part of it, nor are those that are themselves fitted to other families.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.special
from jaxtyping import Bool, Float

from interp_jax.diagnosis.detection import Scored, truth
from interp_jax.errors import InputError

PENALTY, WORST, CUT, MOST = 0.05, 10.0, 3.0, 10.0
NAME = "combined examiner"
Found = Mapping[str, Mapping[str, Scored]]  # {diagnoser: {family: scores}}


class Examiner(NamedTuple):
    """Diagnosers, σ and w of each."""

    diagnosers: tuple[str, ...]
    sizes: Float[np.ndarray, " K"]
    weights: Float[np.ndarray, " K"]


class Family(NamedTuple):
    """Scores about their middle [R 2 K], rows whose truth is known, and whether each is a cheat [r 2]."""

    about: Float[np.ndarray, "R 2 K"]
    rows: np.ndarray
    cheated: Bool[np.ndarray, "r 2"]


def middle(values: Float[np.ndarray, " R"]) -> float:
    """Between the means of the two groups that leave the least variance within; the value itself where all are the same."""
    ordered = np.sort(values)
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        return float(ordered.mean())
    n, sums = np.arange(1, len(ordered)), ordered.cumsum()
    low, high = sums[:-1] / n, (sums[-1] - sums[:-1]) / n[::-1]
    best = int(np.argmax(n * n[::-1] * np.square(high - low)))
    return float((low[best] + high[best]) / 2)


def about_middle(score: Float[np.ndarray, "R 2"]) -> Float[np.ndarray, "R 2"]:
    """With each rule declared."""
    score = np.asarray(score, np.float64)
    return score - [middle(column) for column in score.T]


def family_of(found: Found, name: str, diagnosers: Sequence[str]) -> Family:
    """What diagnosers say of all models of a family."""
    about = np.stack([about_middle(found[one][name].score) for one in diagnosers], axis=-1)
    return Family(about, *truth(found[diagnosers[0]][name].arm))


def everywhere(found: Found, names: Sequence[str]) -> list[str]:
    """Those that judged every family.

    Raises:
      InputError: there is none.
    """
    families = {family for name in names for family in found[name]}
    return some([name for name in names if set(found[name]) == families])


def heeding(found: Found, names: Sequence[str], families: Sequence[str]) -> list[str]:
    """Those that in these families say something else where another rule is declared, and the same however f is told.

    Raises:
      InputError: there is none.
    """
    said = {name: [found[name][family] for family in families] for name in names}
    return some([name for name, own in said.items() if not ignores(own) and not wavers(own)])


def some(kept: list[str]) -> list[str]:
    """Those that are left, if there are any."""
    if not kept:
        raise InputError(
            "the examiner: no diagnoser has judged all families, heeds the declared rule, and says the same however it is told"
        )
    return kept


def ignores(families: Iterable[Scored]) -> bool:
    """Whether a diagnoser says the same whichever rule is declared: it tells models apart, and not what they learned."""
    return all(np.allclose(one.score[:, 0], one.score[:, 1], rtol=1e-4, atol=1e-6) for one in families)


def wavers(families: Iterable[Scored]) -> bool:
    """Whether a diagnoser says something else of those that learned where f is told by other variables."""
    told = [(one.score[:, 0], one.again) for one in families if one.again is not None]
    return any(
        not np.allclose(f[ok], again[ok], rtol=1e-4, atol=1e-6) for f, again in told for ok in [np.isfinite(again)]
    )


def scaled(family: Family, sizes: Float[np.ndarray, " K"]) -> Float[np.ndarray, "R 2 K"]:
    """S of all its models."""
    return np.clip(family.about / sizes, -CUT, CUT)


def fit(families: Sequence[Family], diagnosers: Sequence[str], penalty: float = PENALTY) -> Examiner:
    """Scales and weights, from what these diagnosers say of families.

    Raises:
      InputError: there is no family.
    """
    if not families:
        raise InputError("the examiner is fitted to other families, and there are none")
    sizes = np.sqrt(np.mean([np.square(one.about).mean((0, 1)) for one in families], axis=0))
    sizes = np.where(sizes > 1e-9, sizes, np.inf)
    n = len(sizes)
    told = [
        (scaled(one, sizes)[one.rows].reshape(-1, n), np.where(one.cheated.reshape(-1), 1.0, -1.0)) for one in families
    ]

    def loss(w: Float[np.ndarray, " K"]) -> tuple[float, Float[np.ndarray, " K"]]:
        losses, gradients = [], []
        for s, y in told:
            margin = y * (s @ w)
            losses.append(float(np.logaddexp(0, -margin).mean()))
            gradients.append(-(scipy.special.expit(-margin) * y) @ s / len(y))
        value = (scipy.special.logsumexp(WORST * np.array(losses)) - np.log(len(told))) / WORST
        share = scipy.special.softmax(WORST * np.array(losses))
        return float(value + penalty * w.sum()), share @ np.array(gradients) + penalty

    found = scipy.optimize.minimize(
        loss, np.full(n, 1 / n), jac=True, method="L-BFGS-B", bounds=[(0, MOST)] * n, options={"maxiter": 1_000}
    )
    return Examiner(tuple(diagnosers), sizes, found.x)


def judge(examiner: Examiner, family: Family) -> Float[np.ndarray, "R 2"]:
    """The score of all models of a family with either rule declared."""
    return scaled(family, examiner.sizes) @ examiner.weights


def judge_again(examiner: Examiner, found: Found, name: str) -> Float[np.ndarray, " R"] | None:
    """The score with f told otherwise, about the middles with f as it was told; None where it is not."""
    parts = [found[one][name] for one in examiner.diagnosers]
    if any(one.again is None for one in parts):
        return None
    about = np.stack([one.again - middle(np.asarray(one.score, np.float64)[:, 0]) for one in parts], axis=-1)
    return np.clip(about / examiner.sizes, -CUT, CUT) @ examiner.weights


def examiners(
    found: Found, names: Sequence[str], kin: Mapping[str, str] | None = None, penalty: float = PENALTY
) -> dict[str, Examiner]:
    """For each family that has others with models of known truth, the examiner fitted to these others.

    Args:
      found: scores of diagnosers.
      names: of those that take part: of tiers 0 to 2, and none that is itself fitted to other families, whose scores of the
        others would have seen this one's truth.
      kin: {family: whose rules it has}; families of the same rules are no others. By default each has its own.
      penalty: λ.

    Raises:
      InputError: no diagnoser has judged all families.
    """
    names, kin, fitted = everywhere(found, names), kin or {}, {}
    told = {family: len(truth(one.arm)[0]) for family, one in found[names[0]].items()}
    for name in told:
        others = [one for one, n in told.items() if n and kin.get(one, one) != kin.get(name, name)]
        if others:
            own = heeding(found, names, others)
            fitted[name] = fit([family_of(found, one, own) for one in others], own, penalty)
    return fitted


def combined(found: Found, fitted: Mapping[str, Examiner]) -> dict[str, Scored]:
    """What the examiner of each family says of its models."""
    return {
        name: found[one.diagnosers[0]][name]._replace(
            score=judge(one, family_of(found, name, one.diagnosers)), again=judge_again(one, found, name)
        )
        for name, one in fitted.items()
    }
