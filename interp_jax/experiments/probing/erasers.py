"""What takes a variable out of the stream, by name, and what takes as much out by chance.

    leace         nothing linear is left of it, by the least change (Belrose et al. 2023)
    orthogonal    nothing linear is left of it, by an orthogonal projection
    inlp          what `ROUNDS` linear probes find, one after the other (Ravfogel et al. 2020)
    projection    what one linear probe reads: the directions Σ⁻¹ Σ_xz of its weights, no more
    interchange   what the first would take out is put in from another window, at the same position
    mean          the label is told, and what the mean owes to it is taken off
    transport     the label, a class, is told; all classes get one mean and one covariance ("QLEACE")

The controls of the first five take as many directions, drawn at random, of the whitened stream where they change it least; of
the last two they are the same, fitted to and told labels in another order.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Real

from interp_jax.activations.moment_harvest import one_hot
from interp_jax.activations.moments import Moments, streamed
from interp_jax.data.probing.variables import NONE, known
from interp_jax.probes.erasure.eraser import Eraser, ranks
from interp_jax.probes.erasure.inlp import inlp_of
from interp_jax.probes.erasure.labelled import means, means_edit, transport, transport_edits
from interp_jax.probes.erasure.linear import least_change, orthogonal, projection, random_like, shrunk
from interp_jax.taps import Edit

SHRINKAGE = "oas"  # of the covariance: few tokens may have a label
ROUNDS = 3
Edits = tuple[Edit, ...]


def least(moments: Moments) -> Eraser:
    """LEACE, of a covariance that is shrunk."""
    return least_change(moments, SHRINKAGE)


def of_one_probe(moments: Moments) -> Eraser:
    """The directions of least squares, of a covariance that is shrunk."""
    weights = np.linalg.solve(shrunk(moments, SHRINKAGE), moments.cross_covariance)
    return projection(weights.swapaxes(-1, -2), moments.mean)


BY_MOMENTS: dict[str, Callable[[Moments], Eraser]] = {
    "leace": least,
    "orthogonal": orthogonal,
    "inlp": lambda moments: inlp_of(moments, ROUNDS),
    "projection": of_one_probe,
}
TOLD = ("mean", "transport")
KINDS = (*BY_MOMENTS, "interchange", *TOLD)


class Erasers(NamedTuple):
    """Of a variable at a place.

    Attributes:
      each: the variable's, then those of controls; leading axis 1+R.
      rank: how many directions each takes out.
      taken, taken_at_random: the share of the variance that goes with them.
    """

    each: list[Eraser]
    rank: int
    taken: float
    taken_at_random: float


class ToldErasers(NamedTuple):
    """The same of edits for the labels of some windows."""

    each: list[Edits]
    rank: int
    taken: float
    taken_at_random: float


def targets_of(
    labels: Real[np.ndarray, "*N"], n_classes: int
) -> tuple[Float[np.ndarray, "*N T"], Float[np.ndarray, "*N"]]:
    """What is erased: 1 for the own of so many classes, or a number first and else 0; weights, 0 where there is no label."""
    there = known(labels)
    if labels.dtype.kind != "f":
        return one_hot(labels, n_classes), there.astype(np.float32)
    z = np.zeros((*labels.shape, max(n_classes, 1)), np.float32)
    z[..., 0] = np.where(there, labels, 0)
    return z, there.astype(np.float32)


def rank_of(kind: str, n_targets: int, width: int) -> int:
    """How many columns an eraser has."""
    return min(n_targets, width) * (ROUNDS if kind == "inlp" else 1)


def random_beside(kind: str, own: Eraser, moments: Moments, seed: int | tuple[int, ...], draws: int) -> Eraser:
    """As many random directions, taken out as the eraser does it; draws along a first axis."""
    return random_like(own, seed, draws, shrunk(moments, SHRINKAGE) if kind in ("leace", "interchange") else None)


def erasers(
    x: Float[Array, "B D"], labels: Real[np.ndarray, " B"], n_classes: int, draws: int, seed: int, kind: str = "leace"
) -> Erasers:
    """What erases a variable, and then as many random directions in each of some draws.

    Args:
      x: tokens of a place.
      labels: theirs; those without one do not count.
      n_classes: of the labels; of numbers any.
      draws: of the control.
      seed: of these.
      kind: any that is not told labels; those of an interchange have the mean for their centre, as LEACE has.
    """
    moments = streamed([(x, *targets_of(labels, n_classes))])
    own = BY_MOMENTS.get(kind, least)(moments)
    drawn = random_beside(kind, own, moments, seed, draws)
    each = [own, *(Eraser(*(part[n] for part in drawn)) for n in range(draws))]
    shares = [taken(one, moments) for one in each]
    return Erasers(each, int(ranks(own)), shares[0], float(np.mean(shares[1:])))


def taken(eraser: Eraser, moments: Moments) -> float:
    """Mean squared length of what is taken out, as a share of the variance."""
    there = eraser.read.T @ moments.covariance @ eraser.read
    return float(np.trace(eraser.write.T @ there @ eraser.write) / np.trace(moments.covariance))


def told_erasers(
    x: Float[Array, "B D"],
    labels: Real[np.ndarray, " B"],
    told: Real[np.ndarray, "W P"],
    n_classes: int,
    layer: int,
    draws: int,
    seed: int,
    kind: str,
) -> ToldErasers:
    """The edits of windows whose labels are told, and of labels in other orders.

    Args:
      x: tokens of a place, to which maps are fitted.
      labels: theirs; those without one do not count.
      told: labels of the windows; tokens without one are left as they are.
      n_classes: of the labels; of numbers any.
      layer: which is edited.
      draws: of the control.
      seed: of these.
      kind: one of `TOLD`.
    """
    rng, made = np.random.default_rng([seed, 3]), []
    for n in range(1 + draws):
        own, there = (labels, told) if n == 0 else (shuffled(rng, labels), shuffled(rng, told))
        made.append((by_means if kind == "mean" else by_transport)(x, own, there, n_classes, layer))
    each, shares = zip(*made, strict=True)
    rank = max(n_classes - 1, 1) if kind == "mean" else x.shape[1]
    return ToldErasers(list(each), rank, shares[0], float(np.mean(shares[1:])))


def shuffled(rng: np.random.Generator, labels: Real[np.ndarray, "*N"]) -> Real[np.ndarray, "*N"]:
    """Labels in another order, of the tokens that have one."""
    found, there = labels.copy(), known(labels)
    found[there] = rng.permutation(labels[there])
    return found


def by_means(
    x: Float[Array, "B D"], labels: Real[np.ndarray, " B"], told: Real[np.ndarray, "W P"], n_classes: int, layer: int
) -> tuple[Edits, float]:
    """The edit, and the share of the variance that goes with it."""
    moments = streamed([(x, *targets_of(labels, n_classes))])
    by, (z, there) = means(moments), targets_of(told, n_classes)
    spread = by.effects.T @ (moments.target_scatter / moments.count) @ by.effects
    z = np.where(there[..., None] > 0, z, by.centre)
    return (means_edit(by, z, layer),), float(np.trace(spread) / np.trace(moments.covariance))


def by_transport(
    x: Float[Array, "B D"], labels: Int[np.ndarray, " B"], told: Int[np.ndarray, "W P"], n_classes: int, layer: int
) -> tuple[Edits, float]:
    """The same of all that a quadratic predictor could read."""
    own = (labels == np.arange(n_classes)[:, None]).astype(np.float32)
    classes = streamed([(x, np.zeros((len(x), 0), np.float32), own)])
    covariance = shrunk(classes, SHRINKAGE)
    by = transport(classes._replace(scatter=classes.count[:, None, None] * covariance))
    shares, back = classes.count / classes.count.sum(), np.eye(x.shape[1]) - by.maps
    way = np.square(by.mean - by.centres).sum(-1) + np.einsum("cde,cef,cdf->c", back, covariance, back)
    whole = np.square(by.mean - by.centres).sum(-1) + np.trace(covariance, axis1=1, axis2=2)
    return transport_edits(by, np.where(known(told), told, NONE), layer), float((shares @ way) / (shares @ whole))
