"""Whether attributes can be moved from one example to another one by one, by their features (RAVEL: Huang et al. 2024,
arXiv:2402.17700; for dictionaries Chaudhary and Geiger 2024, arXiv:2409.04478).

An example has a value of each of A attributes (a city its country, language and continent), which a `read` function tells from
its activation: a probe, or what a model answers. The features of attribute a are taken from a source into a base:

    x' = x_base + Σ_{f of a} (f_source - f_base) W_dec,f                                the error of the base is kept

    cause       share of pairs that differ in a for which the value of a read from x' is the source's
    isolation   mean over the other attributes b of the share of pairs that differ in b for which b is still the base's
    disentangle = (cause + isolation) / 2

1/2 is worth nothing: all features give cause 1 and isolation 0, and none the other way round. Which features are those of an
attribute is up to the caller; `by_variance` takes those that vary most with it:

    v_af = ‖W_dec,f‖² · variance over values of the mean of f given the value of a

the n with the largest v_a among features of which v_a is the largest of all attributes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Read = Callable[[Float[Array, "N D"]], Int[Array, "A N"]]


class Valued(NamedTuple):
    """Examples: activations, features, and the value of each attribute, numbers from 0."""

    x: Float[Array, "N D"]
    f: Float[Array, "N F"]
    values: Int[Array, "A N"]


class Interchanged(NamedTuple):
    """Of every attribute; NaN where no pair differs in what is asked for.

    Attributes:
      cause, isolation: see the module.
      read: [A A], share of pairs that differ in b for which, after the features of a were moved, b is the source's.
      kept: [A A], likewise the base's.
    """

    cause: Float[Array, " A"]
    isolation: Float[Array, " A"]
    read: Float[Array, "A A"]
    kept: Float[Array, "A A"]

    @property
    def disentangle(self) -> Float[Array, " A"]:
        """The mean of cause and isolation."""
        return (self.cause + self.isolation) / 2


def interchange(
    read: Read, base: Valued, source: Valued, W_dec: Float[Array, "F D"], features: Bool[Array, "A F"]
) -> Interchanged:
    """Move the features of every attribute from each source to its base.

    Args:
      read: the value of each attribute, of activations.
      base: examples.
      source: as many.
      W_dec: the decoder's rows.
      features: those of each attribute.
    """
    differ = base.values != source.values

    def moved(mask: Bool[Array, " F"]) -> tuple[Array, Array]:
        got = read(base.x + jnp.where(mask, source.f - base.f, 0.0) @ W_dec)
        return share(got == source.values, differ), share(got == base.values, differ)

    taken, kept = jax.lax.map(moved, features)
    own = jnp.eye(len(taken), dtype=bool)
    others = jnp.where(own | jnp.isnan(kept), 0.0, kept).sum(1) / (~own & ~jnp.isnan(kept)).sum(1)
    return Interchanged(jnp.diagonal(taken), others, taken, kept)


def share(right: Bool[Array, "A N"], of: Bool[Array, "A N"]) -> Float[Array, " A"]:
    """Of the examples `of` those that are right; NaN where there is none."""
    n = of.sum(1)
    return jnp.where(n > 0, (right & of).sum(1) / jnp.maximum(n, 1), jnp.nan)


def by_variance(
    data: Valued, W_dec: Float[Array, "F D"], n_values: int, n: Int[Array, ""] | int, most: int
) -> Bool[Array, "A F"]:
    """The n features of each attribute that vary most with it, of those that vary with no other attribute more.

    Args:
      data: examples.
      W_dec: the decoder's rows.
      n_values: the largest number of values of an attribute.
      n: how many, at most `most`.
      most: the largest.
    """
    v = variances(data, n_values) * jnp.square(W_dec).sum(1)
    own = jnp.where(v >= v.max(0), v, 0.0)
    values, chosen = jax.lax.top_k(own, most)
    taken = (jnp.arange(most) < n) & (values > 0)
    return jax.vmap(lambda chosen, taken: jnp.zeros(v.shape[1], bool).at[chosen].set(taken))(chosen, taken)


def variances(data: Valued, n_values: int) -> Float[Array, "A F"]:
    """Of each feature's mean given the value of an attribute; values weigh as often as they occur."""
    given = (data.values[:, None] == jnp.arange(n_values)[:, None]).astype(data.f.dtype)
    n = given.sum(2)
    means = jnp.einsum("avn,nf->avf", given, data.f, precision="highest") / jnp.maximum(n, 1)[..., None]
    return jnp.einsum("av,avf->af", n, jnp.square(means - data.f.mean(0))) / len(data.f)
