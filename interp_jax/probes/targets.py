"""What targets mean, and how scores are measured against them, example weights w.

BINARY   y 0 or 1 [B]; scores z [B] are log-odds: yes where z > 0
CLASSES  y is 1 for the own class and else 0 [B C]; the largest of z [B C] is said, softmax z are probabilities
LABELS   several binary targets of one probe, y [B C] of 0 and 1: means over them of what BINARY measures
REAL     y [B] or [B C] are numbers; so are scores

bits       mean of -log₂ p(y)                      AUROC    share of pairs (yes, no) ranked rightly, ties 1/2
balanced   mean over classes of the share that is told right
R²         1 - Σ w (y - z)² / Σ w (y - ȳ)², the mean over columns
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax.probes.probe import Allowed, Target


class BinaryMeasures(NamedTuple):
    """See the module; `bits` are per example."""

    accuracy: Float[Array, "..."]
    balanced: Float[Array, "..."]
    auroc: Float[Array, "..."]
    bits: Float[Array, "..."]


class ClassMeasures(NamedTuple):
    """See the module."""

    accuracy: Float[Array, "..."]
    balanced: Float[Array, "..."]
    bits: Float[Array, "..."]


class RealMeasures(NamedTuple):
    """See the module; `error` is the mean squared one."""

    r2: Float[Array, "..."]
    error: Float[Array, "..."]


class Told(NamedTuple):
    """Of each example, or of each of its labels: whether it is told right, and the bits that its class costs."""

    accuracy: Float[Array, "..."]
    bits: Float[Array, "..."]


class Missed(NamedTuple):
    """Of each example: the squared error, the mean over columns."""

    error: Float[Array, "..."]


def share(part: Array, whole: Array) -> Array:
    """Their ratio; nan where the whole is 0."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), jnp.nan)


def auroc(z: Float[Array, " B"], y: Float[Array, " B"], w: Float[Array, " B"]) -> Float[Array, ""]:
    """The probability that a yes scores above a no, weighted; ties count half."""
    z, yes, no = jax.lax.sort((z, w * y, w * (1 - y)), num_keys=1)
    upto = jnp.cumsum(no)
    new = jnp.concatenate([jnp.ones(1, bool), z[1:] != z[:-1]])
    below = jax.lax.cummax(jnp.where(new, upto - no, 0.0))
    last = jnp.where(jnp.roll(new, -1), upto, jnp.inf)
    not_above = jax.lax.cummin(last, reverse=True)
    return share((yes * (below + not_above)).sum() / 2, yes.sum() * no.sum())


def each_binary(z: Float[Array, "B *C"], y: Float[Array, "B *C"]) -> Told:
    """Of log-odds."""
    return Told(((z > 0) == (y > 0.5)).astype(z.dtype), (jax.nn.softplus(z) - y * z) / np.log(2))


def binary(z: Float[Array, " B"], y: Float[Array, " B"], w: Float[Array, " B"]) -> BinaryMeasures:
    """Of log-odds."""
    told = each_binary(z, y)
    of = lambda w, each=told.accuracy: share((w * each).sum(), w.sum())
    return BinaryMeasures(of(w), (of(w * y) + of(w * (1 - y))) / 2, auroc(z, y, w), of(w, told.bits))


def each_class(z: Float[Array, "B C"], y: Float[Array, "B C"]) -> Told:
    """Of logits."""
    right = (z.argmax(-1) == y.argmax(-1)).astype(z.dtype)
    return Told(right, -(y * jax.nn.log_softmax(z)).sum(-1) / np.log(2))


def classes(z: Float[Array, "B C"], y: Float[Array, "B C"], w: Float[Array, " B"]) -> ClassMeasures:
    """Of logits; classes without examples do not count."""
    told = each_class(z, y)
    own = share((w * told.accuracy) @ y, w @ y)
    of = lambda each: share((w * each).sum(), w.sum())
    return ClassMeasures(of(told.accuracy), jnp.nanmean(own), of(told.bits))


def labels(z: Float[Array, "B C"], y: Float[Array, "B C"], w: Float[Array, " B"]) -> BinaryMeasures:
    """The mean over labels."""
    return BinaryMeasures(*map(jnp.nanmean, jax.vmap(binary, in_axes=(1, 1, None))(z, y, w)))


def each_label(z: Float[Array, "B C"], y: Float[Array, "B C"]) -> Told:
    """The mean over labels."""
    return Told(*(part.mean(-1) for part in each_binary(z, y)))


def real(z: Float[Array, "B ..."], y: Float[Array, "B ..."], w: Float[Array, " B"]) -> RealMeasures:
    """Of numbers, or of rows of them."""
    z, y = z.reshape(len(z), -1), y.reshape(len(y), -1)
    mean = share(w @ y, w.sum())
    error, spread = w @ jnp.square(y - z), w @ jnp.square(y - mean)
    return RealMeasures(jnp.nanmean(1 - share(error, spread)), jnp.mean(share(error, w.sum())))


def each_number(z: Float[Array, "B ..."], y: Float[Array, "B ..."]) -> Missed:
    """Of numbers, or of rows of them."""
    return Missed(jnp.square(y - z).reshape(len(y), -1).mean(1))


def are_bits(y: np.ndarray) -> Bool[np.ndarray, " B"]:
    """Whether all of an example's targets are 0 or 1."""
    return ((y == 0) | (y == 1)).reshape(len(y), -1).all(1)


def are_classes(y: np.ndarray) -> Bool[np.ndarray, " B"]:
    """Whether an example is of one class at most."""
    return are_bits(y) & (y.reshape(len(y), -1).sum(1) <= 1) & (y.ndim == 2)


def two(y: np.ndarray) -> tuple[int, Int[np.ndarray, "B *C"]]:
    """The classes of targets of 0 and 1."""
    return 2, (y > 0.5).astype(int)


def own_class(y: np.ndarray) -> tuple[int, Int[np.ndarray, " B"]]:
    """The class of each example, -1 of those of none."""
    return y.shape[1], np.where(y.any(1), y.argmax(1), -1)


def number(y: np.ndarray) -> tuple[int, Int[np.ndarray, " B"]]:
    """Which of the numbers, or rows of them, that there are each is."""
    rows = y.reshape(len(y), -1)
    return 0, np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


ONE_OF_MANY = Allowed(are_classes, "[examples, classes] of 0 and one 1, as jax.nn.one_hot makes them")
BINARY = Target(binary, each_binary, two, Allowed(lambda y: are_bits(y) & (y.ndim == 1), "0 or 1"))
CLASSES = Target(classes, each_class, own_class, ONE_OF_MANY)
LABELS = Target(
    labels, each_label, two, Allowed(lambda y: are_bits(y) & (y.ndim == 2), "[examples, labels] of 0 and 1")
)
REAL = Target(real, each_number, number)
