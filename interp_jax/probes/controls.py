"""What a probe is compared with, always: it is fitted as well to what says nothing, or says something else.

    shuffled       the same labels in another order: what is had by chance, and by looking for the best regularisation; where
                   examples come in groups (the tokens of a text), the labels of a group stay together, begin at another place
                   (those cut off follow at the end), and groups change places
    types          one label for each type of example (token, group), drawn from those of all: a control task that only memory
                   of types solves; accuracy less that of it is *selectivity* (Hewitt and Liang 2019, arXiv:1909.03368)
    direction      x · u with u random and of length 1, as the only column: what any one direction says
    untrained      activations of the model with random weights, where they are given

The first two are other targets: row n has the target of row `index[n]`. The others are other activations with the same targets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

TRUE, SHUFFLED, TYPES, DIRECTION, UNTRAINED = "true", "shuffled", "types", "direction", "untrained"


class Drawn(NamedTuple):
    """Of one seed.

    Attributes:
      key: of the fits, and of the direction.
      index: the row whose target each row has: itself, shuffled, and by type if there are types.
    """

    key: Key[Array, "*N"]
    index: Int[Array, "*N I B"]


def names(types: bool, untrained: bool) -> tuple[str, ...]:
    """What is fitted, in the order of results: first the targets themselves, then the controls."""
    return (TRUE, SHUFFLED, *[TYPES] * types, DIRECTION, *[UNTRAINED] * untrained)


def draw(
    seed: int,
    number: int,
    fold: Int[np.ndarray, " B"],
    apart: int,
    counted: Bool[np.ndarray, " B"],
    types: Int[np.ndarray, " B"] | None,
    groups: Int[np.ndarray, " B"] | None = None,
) -> Int[np.ndarray, "I B"]:
    """The rows whose targets are taken.

    Args:
      seed: of all draws.
      number: of the draw.
      fold: of each example; those of fold `apart` are shuffled among themselves.
      apart: the number of folds.
      counted: which examples have weight; others give no target.
      types: of each example.
      groups: of examples whose labels stay together when they are shuffled.
    """
    rng = np.random.default_rng([seed, number, 1])
    shuffled = np.arange(len(fold))
    for part in (counted & (fold == apart), counted & (fold != apart)):
        rows = np.flatnonzero(part)
        if groups is None:
            shuffled[rows] = rng.permutation(rows)
        else:
            rows = rows[np.argsort(groups[rows], kind="stable")]
            shuffled[rows] = blocks_in_another_order(rng, rows, groups[rows])
    found = [np.arange(len(fold)), shuffled]
    if types is not None:
        kinds, own = np.unique(types, return_inverse=True)
        found.append(rng.choice(np.flatnonzero(counted), len(kinds))[own])
    return np.stack(found).astype(np.int32)


def blocks_in_another_order(
    rng: np.random.Generator, rows: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Rows, of which those of a group come one after another, with the groups in a random order, each begun anywhere.

    Neighbours stay neighbours, as what depends on each other must; and groups of one pattern of labels do not keep it.
    """
    if not len(rows):
        return rows
    blocks = np.split(rows, np.flatnonzero(np.diff(groups)) + 1)
    return np.concatenate([np.roll(blocks[i], rng.integers(len(blocks[i]))) for i in rng.permutation(len(blocks))])


def along(key: Key[Array, ""], x: Float[Array, "... D"]) -> Float[Array, "... 1"]:
    """X · u."""
    u = jax.random.normal(key, x.shape[-1:], x.dtype)
    return jnp.matmul(x, u / jnp.linalg.norm(u), precision="highest")[..., None]
