"""How often each feature of a dictionary fires over a stream, and how strongly.

    density      share of tokens in which it is not 0
    histogram    tokens by the size |f|, in bins whose edges are evenly spaced in its logarithm; what lies below all of them is
                 in the first bin, what lies above in the last, and 0 in none

Both add up over blocks, as whole numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Activity(NamedTuple):
    """Of every feature: tokens in which it fires, and these by its size."""

    fired: Int[Array, " F"]
    histogram: Int[Array, "F K"]


def log_edges(low: float | int, high: float | int, per_decade: int) -> Float[np.ndarray, " E"]:
    """Edges of bins from `low` to `high`."""
    return np.geomspace(low, high, round(np.log10(high / low) * per_decade) + 1).astype(np.float32)


def activity(f: Float[Array, "R F"], edges: Float[Array | np.ndarray, " E"]) -> Activity:
    """Of one block; an edge belongs to the bin above it."""
    size, fired = jnp.abs(f), (f != 0).sum(0, dtype=jnp.int32)
    above = jax.lax.map(lambda edge: (size >= edge).sum(0, dtype=jnp.int32), jnp.asarray(edges)[1:-1])
    at_least = jnp.concatenate([fired[None], above, jnp.zeros_like(fired)[None]])
    return Activity(fired, (at_least[:-1] - at_least[1:]).T)


def add(a: Activity, b: Activity) -> Activity:
    """Of both blocks."""
    return Activity(a.fired + b.fired, a.histogram + b.histogram)
