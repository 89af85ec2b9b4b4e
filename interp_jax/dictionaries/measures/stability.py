"""Whether dictionaries that differ in their seed find the same features (Paulo and Belrose 2025, arXiv:2501.16615).

    matched      cosines of the pairs of the best assignment, one feature of each dictionary to one (Hungarian; Kuhn 1955);
                 the mean over all pairs of members is PW-MCC (Song et al. 2025, arXiv:2505.20254)
    nearest      of each feature the largest cosine with any of the other dictionary, which may be one for several
    found again  share of features with a matched cosine above .7; where encoders are given too, those for which the assignment
                 by encoders is the same, and its cosine is above .7 as well, as in the paper

Chance, n directions of another dictionary in D dimensions that know nothing of the first: for a fixed direction (1 + cos)/2 of
each is Beta((D-1)/2, (D-1)/2), so the largest of n cosines has

    P(max <= c) = I_{(1+c)/2}((D-1)/2, (D-1)/2)^n                E max = 1 - ∫_{-1}^{1} P(max <= c) dc

which is that of `nearest`; what matching reaches by chance lies below it and is drawn.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, Int, Key
from scipy.optimize import linear_sum_assignment

from interp_jax.dictionaries.encoders import unit_rows
from interp_jax.dictionaries.measures.geometry import nearest
from interp_jax.errors import InputError

FOUND = 0.7
POINTS = 4_001  # of the integral over cosines


class Stability(NamedTuple):
    """Of all pairs of members.

    Attributes:
      pairs: [n 2], which members.
      partner: [n F], of each feature of the first the feature of the second that it is matched with.
      matched: [n F], its cosine.
      nearest: [n 2 F], of each feature of the first, and of the second, the largest cosine with one of the other.
      found_again: [n], share of features.
    """

    pairs: Int[np.ndarray, "n 2"]
    partner: Int[np.ndarray, "n F"]
    matched: Float[np.ndarray, "n F"]
    nearest: Float[np.ndarray, "n 2 F"]
    found_again: Float[np.ndarray, " n"]

    @property
    def mean(self) -> float:
        """Mean matched cosine, over features and pairs."""
        return float(self.matched.mean())


class Chance(NamedTuple):
    """The largest of n cosines with random directions: its mean, and the cosine that a share `level` of them stay below."""

    mean: float
    quantile: float


def stability(
    W_dec: Float[Array | np.ndarray, "R F D"],
    W_enc: Float[Array | np.ndarray, "R F E"] | None = None,
    least: float = FOUND,
) -> Stability:
    """Of a population of dictionaries; matching needs the F cosines of each of the F features of a pair at once.

    Args:
      W_dec: decoders' rows.
      W_enc: encoders' rows, where features are to agree in them as well.
      least: cosine above which a feature is found again.

    Raises:
      InputError: a population of one.
    """
    if len(W_dec) < 2:
        raise InputError("stability: one dictionary has nothing to be compared with; give at least two members")
    pairs = np.array(list(itertools.combinations(range(len(W_dec)), 2)))
    partners, matched, nearby, again = [], [], [], []
    for i, j in pairs:
        partner, cosine = matching(W_dec[i], W_dec[j])
        agree = cosine > least
        if W_enc is not None:
            by_encoder, encoders = matching(W_enc[i], W_enc[j])
            agree &= (by_encoder == partner) & (encoders > least)
        partners.append(partner)
        matched.append(cosine)
        both = [(W_dec[i], W_dec[j]), (W_dec[j], W_dec[i])]
        nearby.append([np.asarray(nearest(jnp.asarray(a), others=jnp.asarray(b)).cosine[:, 0]) for a, b in both])
        again.append(agree.mean())
    return Stability(pairs, *(np.array(x) for x in (partners, matched, nearby, again)))


def matching(
    first: Float[Array | np.ndarray, "F D"], second: Float[Array | np.ndarray, "F D"]
) -> tuple[Int[np.ndarray, " F"], Float[np.ndarray, " F"]]:
    """Of each feature of the first its partner in the second, and their cosine, which keeps its sign."""
    C = np.asarray(_cosines(jnp.asarray(first), jnp.asarray(second)), np.float64)
    rows, columns = linear_sum_assignment(C, maximize=True)
    return columns, C[rows, columns]


@jax.jit
def _cosines(first: Float[Array, "F D"], second: Float[Array, "F D"]) -> Float[Array, "F F"]:
    return jnp.matmul(unit_rows(first), unit_rows(second).T, precision="highest")


def below_by_chance(cosine: Float[np.ndarray, " N"], n: int, d: int) -> Float[np.ndarray, " N"]:
    """The chance that the largest of n cosines with random directions in d >= 2 dimensions lies below each of these."""
    half = (d - 1) / 2
    return scipy.stats.beta.cdf((1 + cosine) / 2, half, half) ** n


def nearest_by_chance(n: int, d: int, level: float = 0.95) -> Chance:
    """In closed form; n directions in d >= 2 dimensions."""
    half = (d - 1) / 2
    cosine = np.cos(np.linspace(np.pi, 0, POINTS))  # dense where it ends
    below = below_by_chance(cosine, n, d)
    quantile = 2 * scipy.stats.beta.ppf(level ** (1 / n), half, half) - 1
    return Chance(float(1 - np.trapezoid(below, cosine)), float(quantile))


def matched_by_chance(key: Key[Array, ""], n: int, d: int, draws: int = 4) -> Float[np.ndarray, " draws"]:
    """Mean matched cosines of `draws` pairs of dictionaries of n random directions in d dimensions."""
    W = jax.random.normal(key, (draws, 2, n, d))
    return np.array([matching(*pair)[1].mean() for pair in W])
