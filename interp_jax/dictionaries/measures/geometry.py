"""How the rows of a decoder lie: nearest neighbours, clusters, a plane to look at, and how many dimensions they fill.

    nearest neighbour   of row i the j ≠ i with the largest cos(W_i, W_j)               sign counts: opposite rows are not near
    clusters            connected components of the graph of pairs with a cosine above a threshold, which is single linkage
                        cut at that height (Gower and Ross 1969)
    plane               the first two principal components of the unit rows
    dimension           (Σ λ)² / Σ λ²  of the eigenvalues of Σ_i Ŵ_i Ŵ_iᵀ: D of rows that point everywhere, 1 of rows on a line
                        (participation ratio; Gao et al. 2017)

Cosines are taken block of rows by block of rows, against all: [block, F], never [F, F]. A row of zeros has cosine 0 with all.
Masked features, beyond a member's width, are to be left out by the caller: `W_dec[:width]`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int
from scipy.sparse.csgraph import connected_components

from interp_jax.dictionaries.encoders import unit_rows
from interp_jax.errors import InputError

BLOCK = 1_024  # rows at once
NONE = -1  # the neighbour of a row that has too few


class Neighbours(NamedTuple):
    """Of every row the most similar ones, and their cosines; `NONE` and 0 where there are not so many."""

    feature: Int[Array, "F N"]
    cosine: Float[Array, "F N"]


class Clusters(NamedTuple):
    """The cluster of every row, and how many rows each has, largest first: cluster 0 is a largest one."""

    of_row: Int[np.ndarray, " F"]
    sizes: Int[np.ndarray, " n"]


class Plane(NamedTuple):
    """Where every row lies, and the share of the variance that each of the two axes has."""

    points: Float[Array, "F 2"]
    shares: Float[Array, "2"]


@partial(jax.jit, static_argnames=("n", "block"))
def nearest(
    W: Float[Array, "F D"],
    n: int = 1,
    others: Float[Array, "G D"] | None = None,
    used: Bool[Array, " F"] | None = None,
    block: int = BLOCK,
) -> Neighbours:
    """Of every row of W the n nearest other rows, or the nearest of another dictionary's rows; of equal ones the first.

    Args:
      W: rows.
      n: how many of each.
      others: rows among which they are looked for; by default W itself.
      used: which of these count; by default all.
      block: rows at once.
    """
    among = unit_rows(W if others is None else others)

    def of_block(first: Array, rows: Array) -> tuple[Array, Array]:
        cosines = jnp.matmul(rows, among.T, precision="highest")
        out = jnp.zeros(cosines.shape, bool) if used is None else jnp.broadcast_to(~used, cosines.shape)
        if others is None:
            out |= (first + jnp.arange(len(rows)))[:, None] == jnp.arange(len(among))
        return tuple(jax.lax.top_k(jnp.where(out, -jnp.inf, cosines), n))

    firsts, blocks = in_blocks(unit_rows(W), block)
    found = jax.lax.map(lambda one: of_block(*one), (firsts, blocks))
    cosine, feature = (x.reshape(-1, n)[: len(W)] for x in found)
    there = jnp.isfinite(cosine)
    return Neighbours(jnp.where(there, feature, NONE).astype(jnp.int32), jnp.where(there, cosine, 0.0))


def in_blocks(rows: Float[Array, "F D"], block: int) -> tuple[Int[Array, " n"], Float[Array, "n B D"]]:
    """Where each block begins, and the blocks, the last filled up with zeros."""
    n = -(-len(rows) // block)
    return block * jnp.arange(n), jnp.pad(rows, ((0, n * block - len(rows)), (0, 0))).reshape(n, block, -1)


def histogram(cosine: Float[Array | np.ndarray, "..."], bins: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """How many cosines lie in each of as many equal bins from -1 to 1, and the edges of these."""
    return np.histogram(np.clip(np.asarray(cosine), -1, 1), bins, (-1, 1))


def clusters(W: Float[Array, "F D"], least: float = 0.7, block: int = BLOCK) -> Clusters:
    """Rows that hang together by cosines of at least `least`."""
    if not -1 < least <= 1:
        raise InputError(f"clusters: least = {least} is no cosine; it must be above -1 and at most 1")
    unit, n = unit_rows(W), len(W)
    close = lambda first: np.argwhere(_close(unit[first : first + block], unit, least)) + np.array([first, 0])
    pairs = [close(first) for first in range(0, n, block)]
    i, j = np.concatenate(pairs).T
    graph = scipy.sparse.coo_array((np.ones(len(i), bool), (i, j)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    sizes = np.bincount(label)
    order = np.argsort(-sizes, kind="stable")
    return Clusters(np.argsort(order)[label], sizes[order])


@jax.jit
def _close(
    rows: Float[Array, "B D"], unit: Float[Array, "F D"], least: Float[Array, ""] | float
) -> Bool[Array, "B F"]:
    return jnp.matmul(rows, unit.T, precision="highest") >= least


@jax.jit
def plane(W: Float[Array, "F D"]) -> Plane:
    """The first two principal components of the unit rows; their signs are such that the largest entry is positive."""
    unit = unit_rows(W)
    centred = unit - unit.mean(0)
    values, vectors = jnp.linalg.eigh(jnp.matmul(centred.T, centred, precision="highest"))
    axes = vectors[:, ::-1][:, :2]
    largest = jnp.take_along_axis(axes, jnp.abs(axes).argmax(0)[None], 0)
    points = jnp.matmul(centred, axes * jnp.sign(largest), precision="highest")
    return Plane(points, values[::-1][:2] / jnp.maximum(values.sum(), jnp.finfo(W.dtype).tiny))


@jax.jit
def effective_dimension(W: Float[Array, "F D"]) -> Float[Array, ""]:
    """Participation ratio of the unit rows, at most min(F, D)."""
    unit = unit_rows(W)
    moment = jnp.matmul(unit.T, unit, precision="highest")  # Σ λ is its trace, Σ λ² its squared norm
    return jnp.square(jnp.trace(moment)) / jnp.maximum(jnp.square(moment).sum(), jnp.finfo(W.dtype).tiny)
