"""The largest entries of a matrix [B F] that lies over a mesh, as masks: exact, and without sending the matrix around.

    of_rows    the k largest of each row      every device finds those of its part of its rows; of these k candidates of each of
                                              the n shards of features the k largest are the row's: B/m · k · n values are
                                              gathered, m being the shards of examples
    of_all     the N largest of all           their smallest is found bit by bit, by 32 sums of one count each; entries that
                                              equal it are counted row by row, and B · n counts are gathered

Equal ones are taken by the lowest index, as `top_k.py` has it. Which entries are taken is known where they lie, so what
follows (the matrix of features, its gradient, counters) stays there too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Integer

from interp_jax.dictionaries.top_k import nth_largest, ordered_bits, running_count, top_k
from interp_jax.train.mesh import BOTH, DATA, MODEL


def of_rows(z: Float[Array, "B F"], k: Integer[Array, ""] | int, most: int) -> Bool[Array, "B F"]:
    """Which entries are among the k largest of their row, k at most `most`; on the mesh that is here."""

    def on_device(z: Array, k: Array) -> Array:
        shard, rows, (_, length) = lax.axis_index(MODEL), jnp.arange(len(z))[:, None], z.shape
        values, place = top_k(z, min(most, length))
        own = values.shape[1]
        _, chosen = top_k(lax.all_gather(values, MODEL, axis=1, tiled=True), most)
        mine = chosen - shard * own
        there = (jnp.arange(most) < k) & (mine >= 0) & (mine < own)
        column = jnp.take_along_axis(place, jnp.clip(mine, 0, own - 1), 1)
        return jnp.zeros(z.shape, bool).at[rows, jnp.where(there, column, length)].set(True, mode="drop")

    return spread(on_device)(z, jnp.asarray(k, jnp.int32))


def of_all(z: Float[Array, "B F"], n: Integer[Array, ""] | int) -> Bool[Array, "B F"]:
    """Which entries are among the n largest of all; on the mesh that is here."""

    def on_device(z: Array, n: Array) -> Array:
        total = lambda counts: lax.psum(counts, BOTH)
        order = ordered_bits(z)
        least = nth_largest(order, n, total)
        above, equal = order > least, order == least
        return above | (equal & (rank(equal) < n - total(above.sum())))

    return spread(on_device)(z, jnp.asarray(n, jnp.int32))


def rank(there: Bool[Array, "b f"]) -> Int[Array, "b f"]:
    """How many of the entries of all devices come before each, row by row."""
    upto = running_count(there.ravel()).reshape(there.shape)
    own = there.sum(1, dtype=jnp.int32)
    within = upto - (upto[:, -1] - own)[:, None]
    counts = lax.all_gather(lax.all_gather(own, MODEL, axis=1), DATA, axis=0, tiled=True)  # [B, n]
    before = (jnp.cumsum(counts.ravel()) - counts.ravel()).reshape(counts.shape)
    first = lax.axis_index(DATA) * len(there)
    return lax.dynamic_slice_in_dim(before, first, len(there))[:, lax.axis_index(MODEL), None] + within - 1


def spread(on_device: Any) -> Any:
    """A function of a matrix, and of a number that all devices have, on each device's part."""
    return jax.shard_map(on_device, in_specs=(P(*BOTH), P()), out_specs=P(*BOTH), check_vma=False)
