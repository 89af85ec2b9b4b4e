"""Where in a stream of text each feature fires: its strongest examples, and examples at quantiles of its activation.

Examples are kept on the device while the stream goes by in blocks of windows, each with the activations around it, and at most
one of a window. They are kept by a rank:

    strongest    the size |f|: the E windows in which it is the largest, at its place there
    drawn        a uniform number of (seed, window, position, feature): the E windows whose largest, among the tokens in which
                 the feature fires, is the largest. A sample of fixed size of a stream of any length (Vitter 1985, "Random
                 sampling with a reservoir"); tokens are equally likely as long as few are taken

Of equal ranks the first in the stream is kept. Quantiles are of the drawn ones, by size: example i of n has the rank
⌊(i + ½) m / n⌋ of the m that there are, from the weakest; of equal sizes the first in the stream comes first.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax import randomness
from interp_jax.randomness import Scalar

NONE = -1  # the window of an example that is not there


class Examples(NamedTuple):
    """Of every feature, the highest rank first.

    Attributes:
      rank: what they are kept by; 0 where there is no example.
      window, position: where, in the stream; the window is -1 where there is none.
      value: the activation there.
      around: activations from `before` tokens before it to `after` tokens after it; 0 beyond the window.
    """

    rank: Float[Array, "F E"]
    window: Int[Array, "F E"]
    position: Int[Array, "F E"]
    value: Float[Array, "F E"]
    around: Float[Array, "F E S"]


def no_examples(n_features: int, n: int, span: tuple[int, int]) -> Examples:
    """What a stream begins with."""
    nowhere, zero = jnp.full((n_features, n), NONE), jnp.zeros((n_features, n))
    return Examples(zero, nowhere, nowhere, zero, jnp.zeros((n_features, n, sum(span) + 1)))


def strongest(f: Float[Array, "W P F"], first: Scalar, span: tuple[int, int]) -> Examples:
    """The strongest of each window; `first` is the first window's number in the stream."""
    return of_windows(f, jnp.abs(f), first, span)


def drawn(f: Float[Array, "W P F"], first: Scalar, span: tuple[int, int], seed: Scalar) -> Examples:
    """One of each window in which the feature fires."""
    number = 1 - randomness.uniform("counter", seed, "features.examples", first, f.shape)  # above 0
    return of_windows(f, jnp.where(f != 0, number, 0.0), first, span)


def of_windows(
    f: Float[Array, "W P F"], rank: Float[Array, "W P F"], first: Scalar, span: tuple[int, int]
) -> Examples:
    """The one of the highest rank in each window, if that is above 0."""
    before, after = span
    position, best = rank.argmax(1), rank.max(1)  # [W F]
    padded = jnp.pad(f, ((0, 0), (before, after), (0, 0)))
    at = lambda offset: jnp.take_along_axis(padded, (position + offset)[:, None], 1)[:, 0]
    around = jax.lax.map(at, jnp.arange(before + after + 1))  # [S W F]
    there = best > 0
    window = jnp.where(there, (first + jnp.arange(len(f)))[:, None], NONE)
    position = jnp.where(there, position, NONE).astype(jnp.int32)
    around = jnp.where(there, around, 0.0)
    return Examples(best.T, window.astype(jnp.int32).T, position.T, around[before].T, around.transpose(2, 1, 0))


def merge(kept: Examples, found: Examples) -> Examples:
    """As many as are kept, of both; what is found comes later in the stream."""
    both = [jnp.concatenate(pair, 1) for pair in zip(kept, found, strict=True)]
    rank, chosen = jax.lax.top_k(both[0], kept.rank.shape[1])
    window, position, value = (jnp.take_along_axis(x, chosen, 1) for x in both[1:4])
    return Examples(rank, window, position, value, jnp.take_along_axis(both[4], chosen[..., None], 1))


def at_quantiles(sample: Examples, n: int) -> tuple[Examples, Bool[Array, "F N"], Float[Array, "F M"]]:
    """The examples at n quantiles, from the weakest; which are there; the sizes between which each stands for a share of 1/n.

    Where fewer than n were drawn, each is there once.
    """
    there = sample.rank > 0
    size = jnp.where(there, jnp.abs(sample.value), jnp.inf)
    order = jnp.lexsort((sample.position, sample.window, size), axis=1)
    m = there.sum(1)[:, None]
    ranks = (2 * jnp.arange(n) + 1) * m // (2 * n)
    chosen = jnp.take_along_axis(order, ranks, 1)
    new = jnp.concatenate([jnp.ones_like(m, bool), ranks[:, 1:] != ranks[:, :-1]], 1) & (m > 0)
    ends = jnp.minimum(jnp.arange(n + 1) * m // n, jnp.maximum(m - 1, 0))
    bounds = jnp.take_along_axis(size, jnp.take_along_axis(order, ends, 1), 1)
    picked = [jnp.take_along_axis(x, chosen, 1) for x in sample[:4]]
    picked.append(jnp.take_along_axis(sample.around, chosen[..., None], 1))
    return Examples(*picked), new, jnp.where(m > 0, bounds, 0.0)
