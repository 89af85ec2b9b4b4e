"""The largest entries of a row or of a whole batch, exactly; equal ones by the lowest index, as `jax.lax.top_k` has it.

    top_k      the k largest of each row, in falling order
    largest    the n largest of all entries, in the order of their indices; n may be traced

`lax.top_k` sorts more than it needs where a row is long. Two levels do less: rows are cut into blocks; an entry among the k
largest lies in one of the k blocks with the largest maxima (of equal ones those with the lowest index: at most k - m blocks
exceed the threshold if m of the k equal it, and the m first equals lie within the m first blocks that equal it), so k blocks
are what has to be looked at. In a whole batch the threshold is found by bisection of the floats' bits, first over the maxima
of blocks, then over the entries of the blocks above it. Of entries that lie on several devices: `over_mesh.py`.

On a CPU both levels are a tournament: k rounds, each of which takes the largest of all blocks' maxima, strikes it out, and
finds that block's next. Milliseconds on two cores, B = 1,024:

    k / F              8 / 2,048   32 / 2,048   32 / 4,096   64 / 4,096   32 / 16,384   128 / 16,384
    lax.top_k             5.3         15.4         22.3         33.5          60             88
    two levels of it      3.1         14.3         17.7         35.7          23             80
    two tournaments       2.0          5.4          9.1         17.2          12             40
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer

BLOCK = 16  # entries of a row that are looked at together
PIECE = 64  # of what a running count is made of
SIGN = np.uint32(1 << 31)


class Largest(NamedTuple):
    """The n largest entries of an array [B, F], flattened; those past a traced n have value 0."""

    values: Float[Array, " N"]
    row: Int[Array, " N"]
    column: Int[Array, " N"]


def top_k(z: Float[Array, "B F"], k: int, block: int | None = None) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """The k largest entries of each row in falling order, and their columns. NaN is infinite, and is returned so on a CPU.

    `block` is the number of entries looked at together, 1 for all by themselves; by default what was fastest for k/F.
    """
    find = tournament if jax.default_backend() == "cpu" else lax.top_k
    block = fastest_block(k, z.shape[1]) if block is None else block
    if block == 1:
        return tuple(find(z, k))
    blocks = z.reshape(len(z), -1, block)
    _, chosen = find(blocks.max(2), k)
    chosen = jnp.sort(chosen, axis=1)  # so that of equal entries the first is found first
    candidates = jnp.take_along_axis(blocks, chosen[:, :, None], 1).reshape(len(z), k * block)
    values, place = find(candidates, k)
    return values, jnp.take_along_axis(chosen, place // block, 1) * block + place % block


def fastest_block(k: int, n_columns: int) -> int:
    """Blocks of 16 as long as they leave at most half of the row to look at."""
    return BLOCK if n_columns % BLOCK == 0 and 2 * k * BLOCK <= n_columns else 1


def tournament(z: Float[Array, "B F"], k: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """`lax.top_k` in k rounds."""
    block = math.gcd(z.shape[1], BLOCK)
    lowest, rows = jnp.finfo(z.dtype).min, jnp.arange(len(z))  # what is struck out is below all that is there
    blocks = jnp.nan_to_num(z, nan=jnp.inf, posinf=jnp.inf, neginf=lowest).reshape(len(z), -1, block)
    maxima, n = blocks.max(2).T, blocks.shape[1]
    of_blocks, of_entries = jnp.arange(n, dtype=jnp.int32)[:, None], jnp.arange(block, dtype=jnp.int32)[None]

    def play(j: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        blocks, maxima, values, columns = carry
        best = maxima.max(0)
        winner = jnp.where(maxima == best, of_blocks, n).min(0)
        entries = blocks[rows, winner]
        place = jnp.where(entries == best[:, None], of_entries, block).min(1)
        left = jnp.where(of_entries == place[:, None], -jnp.inf, entries)
        blocks, maxima = blocks.at[rows, winner].set(left), maxima.at[winner, rows].set(left.max(1))
        return blocks, maxima, values.at[j].set(best), columns.at[j].set(winner * block + place)

    empty = jnp.zeros((k, len(z)), z.dtype), jnp.zeros((k, len(z)), jnp.int32)
    _, _, values, columns = lax.fori_loop(0, k, play, (blocks, maxima, *empty))
    return jnp.where(values == lowest, -jnp.inf, values).T, columns.T


def largest(z: Float[Array, "B F"], n: Integer[Array, ""] | int, most: int) -> Largest:
    """The n largest entries of all rows together, n at most `most`."""
    n_columns = z.shape[1]
    n = jnp.minimum(jnp.asarray(n, jnp.int32), most)
    if n_columns % BLOCK or 2 * most * BLOCK > z.size:
        chosen = first_largest(z.ravel(), n, most)
        index, values = chosen, jnp.take(z.ravel(), chosen)
    else:
        blocks = z.reshape(-1, BLOCK)
        kept = first_largest(blocks.max(1), n, most)
        kept_entries = jnp.where((jnp.arange(most) < n)[:, None], blocks[kept], -jnp.inf).ravel()
        chosen = first_largest(kept_entries, n, most)
        index, values = kept[chosen // BLOCK] * BLOCK + chosen % BLOCK, kept_entries[chosen]
    there = jnp.arange(most) < n
    index = jnp.where(there, index, 0).astype(jnp.int32)
    return Largest(jnp.where(there, values, 0.0), index // n_columns, index % n_columns)


def first_largest(x: Float[Array, " M"], n: Integer[Array, ""], most: int) -> Int[Array, " N"]:
    """Indices, rising, of the n largest; of those equal to the smallest of them the first. Beyond n they mean nothing."""
    order = ordered_bits(x)
    threshold = nth_largest(order, n)
    above, equal = order > threshold, order == threshold
    taken = above | (equal & (running_count(equal) <= n - above.sum()))
    place = jnp.where(taken, running_count(taken) - 1, most)
    return jnp.zeros(most + 1, jnp.int32).at[place].set(jnp.arange(len(x), dtype=jnp.int32))[:most]


def running_count(there: Bool[Array, " M"]) -> Int[Array, " M"]:
    """`jnp.cumsum`, by products in pieces, and in pieces of pieces: over a long axis a fifth of its time on a CPU."""
    pieces = jnp.pad(there, (0, -len(there) % PIECE**2)).reshape(-1, PIECE, PIECE).astype(jnp.float32)
    upto = jnp.triu(jnp.ones((PIECE, PIECE), jnp.float32))
    within, of_pieces = (pieces @ upto).astype(jnp.int32), pieces.sum(2)
    before = (of_pieces @ (upto - jnp.eye(PIECE))).astype(jnp.int32)
    totals = of_pieces.sum(1).astype(jnp.int32)
    before = before + (jnp.cumsum(totals) - totals)[:, None]
    return (within + before[:, :, None]).ravel()[: len(there)]


def ordered_bits(x: Float[Array, "*shape"]) -> Integer[Array, "*shape"]:
    """Words of 32 bits in the order of the floats (IEEE 754): the sign flipped, and of negative numbers all bits."""
    bits = lax.bitcast_convert_type(x.astype(jnp.float32) + 0.0, jnp.uint32)  # -0 becomes 0
    return jnp.where(bits >> 31 == 1, ~bits, bits | SIGN)


def nth_largest(
    order: Integer[Array, "*shape"], n: Integer[Array, ""], total: Callable[[Array], Array] = lambda count: count
) -> Integer[Array, ""]:
    """The largest word that at least n of them reach: its bits one by one, from the first; `total` sums over devices."""

    def decide(i: Array, found: Array) -> Array:
        tried = found | (np.uint32(1) << (31 - i).astype(jnp.uint32))
        return jnp.where(total((order >= tried).sum()) >= n, tried, found)

    return lax.fori_loop(0, 32, decide, jnp.uint32(0))
