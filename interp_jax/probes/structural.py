"""Trees that are laid out in activations: distances and depths of words (Hewitt and Manning 2019).

distance    d_ij = ‖Bᵀ (x_i - x_j)‖²            to the number of edges between words i and j
depth       d_i  = ‖Bᵀ x_i‖²                    to the number of edges from the root to word i
loss = Σ_n w_n mean_ij soft(d_ij - y_ij) / Σ_n w_n + λ/2 ‖B‖² / Σ_n w_n          soft(e) = √(e² + δ²) - δ

soft is the paper's |e| but for the corner, which δ, `softness`, rounds off, so that the loss has a gradient everywhere. x is
divided by its size, and for depths also less its mean. A label under 0 (a word or a pair that is not there) does not count.

How much of a tree is there: `attachment`, the share of its edges among those of the tree that the distances span, and `order`,
Spearman's correlation, word by word.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from interp_jax.probes.descent import minimise
from interp_jax.probes.probe import Convergence, Probe, Target
from interp_jax.probes.scale import Scale, scale, scaled


class Hypers(NamedTuple):
    """Traced: λ and δ."""

    penalty: Float[Array, ""] | float = 0.0
    softness: Float[Array, ""] | float = 0.1


class Structural(NamedTuple):
    """B, the scale of what is read, and how the fit ended."""

    B: Float[Array, "D k"]
    scale: Scale
    convergence: Convergence


def distances(B: Float[Array, "D k"], rows: Float[Array, "B P D"]) -> Float[Array, "B P P"]:
    """Squared distances of words, seen through B."""
    h = rows @ B
    square = jnp.square(h).sum(-1)
    return jnp.maximum(square[:, :, None] + square[:, None] - 2 * jnp.einsum("bik,bjk->bij", h, h), 0.0)


def depths(B: Float[Array, "D k"], rows: Float[Array, "B P D"]) -> Float[Array, "B P"]:
    """Squared lengths of words, seen through B."""
    return jnp.square(rows @ B).sum(-1)


def fit(
    read: Callable[[Array, Array], Array],
    key: Key[Array, ""],
    x: Float[Array, "B P D"],
    y: Float[Array, "B P *P"],
    w: Float[Array, " B"],
    hypers: Hypers,
    rank: int = 16,
    tolerance: float = 1e-5,
    most_steps: int = 1_000,
) -> Structural:
    """The B of `rank` columns for which `read` (`distances` or `depths`) is nearest to y."""
    there = y >= 0
    of_x = scale(x, jnp.broadcast_to(w[:, None], x.shape[:2]))
    rows, axes = scaled(of_x, x), tuple(range(1, y.ndim))
    share = w[(...,) + (None,) * len(axes)] * there / jnp.maximum(there.sum(axes, keepdims=True), 1) / w.sum()

    def objective(B: Array) -> Float[Array, ""]:
        error = read(B, rows) - y
        soft = jnp.sqrt(jnp.square(error) + jnp.square(hypers.softness)) - hypers.softness
        return (share * soft).sum() + 0.5 * hypers.penalty * jnp.square(B).sum() / w.sum()

    start = jax.random.normal(key, (x.shape[-1], rank), x.dtype) / (x.shape[-1] * rank) ** 0.5
    B, left = minimise(objective, start, tolerance, most_steps)
    return Structural(B, of_x, left)


def predict(read: Callable[[Array, Array], Array], params: Structural, x: Float[Array, "B P D"]) -> Array:
    """Distances [B P P] or depths [B P]."""
    with jax.default_matmul_precision("highest"):
        return read(params.B, scaled(params.scale, x))


class TreeMeasures(NamedTuple):
    """How near: R² of all labels that count, and the mean absolute error, in edges."""

    r2: Float[Array, "..."]
    error: Float[Array, "..."]


def measured(scores: Array, y: Array, w: Float[Array, " B"]) -> TreeMeasures:
    """Of distances or depths; every word or pair that is there weighs as much as its text."""
    share = w[(...,) + (None,) * (y.ndim - 1)] * (y >= 0)
    mean = lambda a: (share * a).sum() / share.sum()
    return TreeMeasures(1 - mean(jnp.square(scores - y)) / mean(jnp.square(y - mean(y))), mean(jnp.abs(scores - y)))


TREES = Target(measured)
DISTANCES = Probe(partial(fit, distances), partial(predict, distances), TREES)
DEPTHS = Probe(partial(fit, depths), partial(predict, depths), TREES)


def attachment(found: Float[np.ndarray, "B P P"], truth: Float[np.ndarray, "B P P"]) -> Float[np.ndarray, " B"]:
    """The share of each tree's edges (pairs at distance 1) that are in the minimum spanning tree of what was found (UUAS)."""
    from scipy.sparse.csgraph import minimum_spanning_tree  # takes a moment, which other probes need not wait for

    def one(found: np.ndarray, truth: np.ndarray) -> float:
        there = np.diagonal(truth) >= 0
        found, truth = found[np.ix_(there, there)], truth[np.ix_(there, there)]
        ranks = 1 + np.unique(found, return_inverse=True)[1].reshape(found.shape)  # a distance of 0 would be no edge
        spanned = minimum_spanning_tree(np.triu(ranks, 1)).toarray() > 0
        return float((spanned & (truth == 1)).sum() / max(len(truth) - 1, 1))

    return np.array([one(*pair) for pair in zip(np.asarray(found), np.asarray(truth), strict=True)])


def order(found: Float[np.ndarray, "B P *P"], truth: Float[np.ndarray, "B P *P"]) -> Float[np.ndarray, " B"]:
    """Spearman's correlation of what was found with the truth: of depths, or the mean over words of that of distances."""
    from scipy.stats import spearmanr

    def one(found: np.ndarray, truth: np.ndarray) -> float:
        pairs = zip(np.atleast_2d(found), np.atleast_2d(truth), strict=True)
        each = [spearmanr(a[b >= 0], b[b >= 0]).statistic for a, b in pairs if len(np.unique(b[b >= 0])) > 1]
        return float(np.mean(each)) if each else float("nan")

    return np.array([one(*pair) for pair in zip(np.asarray(found), np.asarray(truth), strict=True)])
