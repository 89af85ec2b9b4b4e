"""Absorption: a feature that goes silent where a narrower one is there, whose row has taken its direction over (Chanin et al.
2024, arXiv:2409.14507), on features whose hierarchy is known.

    m(s) = argmax_f |cos(W_dec,f, d_s)|               the feature that stands for the true one s
    recall alone = P(m(s) fires | s, and no child of s)            recall with a child = P(m(s) fires | s, and a child)
    absorbed = 1 - recall with a child / recall alone

A dictionary that has the hierarchy as it is has equal recalls. One that absorbs has a high recall where the parent is alone,
and a low one where a child, in whose row the parent's direction lies, says it already. Counts add up over blocks.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

NO_PARENT = -1


class Recalls(NamedTuple):
    """Of every true feature: examples in which it is alone and with a child, and in which its feature fires then."""

    alone: Int[Array | np.ndarray, "... S"]
    alone_fired: Int[Array | np.ndarray, "... S"]
    with_child: Int[Array | np.ndarray, "... S"]
    with_child_fired: Int[Array | np.ndarray, "... S"]


class Absorption(NamedTuple):
    """Of every member: means over true features that have children and were seen alone and with one; see above."""

    recall_alone: Float[np.ndarray, "..."]
    recall_with_child: Float[np.ndarray, "..."]
    absorbed: Float[np.ndarray, "..."]


def recalls(
    f: Float[Array, "B F"], coefficients: Float[Array, "B S"], parent: Int[Array, " S"], standing: Int[Array, " S"]
) -> Recalls:
    """Of one block; `parent` is -1 for a feature without one, `standing` m."""
    there, fires = coefficients != 0, (f != 0)[:, standing]
    child = has_child(there, parent)
    alone, joined = there & ~child, there & child
    return Recalls(*(x.sum(0, dtype=jnp.int32) for x in (alone, alone & fires, joined, joined & fires)))


def has_child(there: Bool[Array, "B S"], parent: Int[Array, " S"]) -> Bool[Array, "B S"]:
    """Whether a child of each feature is there."""
    roots = parent == NO_PARENT
    return jnp.zeros_like(there).at[:, jnp.where(roots, 0, parent)].max(jnp.where(roots, False, there))


def absorption(counts: Recalls, directions: Float[np.ndarray, "... S"], least: float = 0.5) -> Absorption:
    """Of true features whose standing one points their way.

    Args:
      counts: of a stream.
      directions: |cos| of each true feature with the one that stands for it.
      least: |cos| below which a feature is not taken to stand for it.
    """
    alone, fired, joined, joined_fired = (np.asarray(x, np.float64) for x in counts)
    seen = (alone > 0) & (joined > 0) & (np.asarray(directions) >= least)
    apart, with_child = fired / np.maximum(alone, 1), joined_fired / np.maximum(joined, 1)
    means = [np.where(seen, x, 0).sum(-1) / np.where(seen.any(-1), seen.sum(-1), np.nan) for x in (apart, with_child)]
    return Absorption(*means, 1 - means[1] / np.where(means[0] > 0, means[0], np.nan))
