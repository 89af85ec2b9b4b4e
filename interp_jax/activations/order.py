"""The order in which the rows of a store are read: as they were written, or shuffled anew across several shards at a time.

    epoch e:   shards in an order drawn by (seed, e)  ──►  cut into groups of `across` shards
    group g:   all rows of its shards in an order drawn by (seed, e, g)

Row i of the stream is a function of (seed, i) alone: one that goes on from there reads what it would have read. Epochs follow
one another without end. Draws are sorted bits of Philox (Salmon et al. 2011), which no version of NumPy changes.
"""

import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

GROUPS_KEPT = 2  # whose permutations are in memory: batches may lie in two


class Order(NamedTuple):
    """How shards are gone through.

    Attributes:
      shards: rows of each shard, as they lie.
      across: shards whose rows are shuffled together; 0 leaves all rows as they lie.
      seed: of the order.
    """

    shards: tuple[int, ...]
    across: int = 0
    seed: int = 0


def row_numbers(order: Order, first: int, n: int) -> Int[np.ndarray, " n"]:
    """The rows first … first + n - 1 of the endless stream, as numbers of rows of the store."""
    total = sum(order.shards)
    if not order.across:
        return np.arange(first, first + n, dtype=np.int64) % total
    found: list[np.ndarray] = []
    while n > 0:
        epoch, at = divmod(first, total)
        ends = np.cumsum([sum(order.shards[i] for i in group) for group in groups(order, epoch)])
        g = int(np.searchsorted(ends, at, side="right"))
        rows = rows_of_group(order, epoch, g)
        begin = len(rows) - int(ends[g]) + at
        found.append(rows[begin : begin + n])
        first, n = first + len(found[-1]), n - len(found[-1])
    return np.concatenate(found)


@lru_cache(maxsize=GROUPS_KEPT)
def groups(order: Order, epoch: int) -> tuple[tuple[int, ...], ...]:
    """The shards of each group of an epoch."""
    drawn = permutation(order.seed, "store.shards", epoch, 0, len(order.shards)).tolist()
    return tuple(tuple(drawn[i : i + order.across]) for i in range(0, len(drawn), order.across))


@lru_cache(maxsize=GROUPS_KEPT)
def rows_of_group(order: Order, epoch: int, g: int) -> Int[np.ndarray, " n"]:
    """The rows of a group, in the order that was drawn."""
    starts = np.cumsum((0, *order.shards))
    rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in groups(order, epoch)[g]])
    return rows[permutation(order.seed, "store.rows", epoch, g, len(rows))]


def permutation(seed: int, stream: str, epoch: int, g: int, n: int) -> Int[np.ndarray, " n"]:
    """An order of n things, a function of the other arguments."""
    key = np.array([seed % 2**64, zlib.crc32(stream.encode())], np.uint64)
    bits = np.random.Philox(key=key, counter=np.array([0, 0, g, epoch], np.uint64)).random_raw(n)
    return np.argsort(bits, kind="stable")
