"""Kinds of attention head, told by where they look (Olsson et al. 2022, "In-context Learning and Induction Heads").

A kind is a set of target keys for every query; its score is the attention that a head puts on them,

    score[l, h] = mean over (b, q) with a target of  sum over targets k of pattern[l, b, h, q, k]       in [0, 1].

    previous     k = q - 1
    duplicate    token[k] = token[q], k < q              an earlier copy of the query's token
    induction    token[k - 1] = token[q], k ≤ q          what came after an earlier copy ("prefix matching")

On a sequence that consists of a segment of period T and its repetition, `repeat_targets` gives the sharper form that looks
at one place only: `duplicate` k = q - T, `induction` k = q - T + 1, for q ≥ T. There, chance matches of tokens, which text is
full of, do not count. A head's score is to be read against `uniform_pattern`'s, that of a head that looks everywhere.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class HeadScores(NamedTuple):
    """Scores in [0, 1] by layer and head."""

    previous: Float[Array, "L H"]
    duplicate: Float[Array, "L H"]
    induction: Float[Array, "L H"]


def head_score(pattern: Float[Array, "L B H Q K"], targets: Bool[Array, "#B Q K"]) -> Float[Array, "L H"]:
    """Attention on the targets, averaged over the queries that have one; NaN where none has."""
    mass = jnp.einsum("lbhqk,bqk->lbhq", pattern, jnp.broadcast_to(targets, _bqk(pattern)).astype(pattern.dtype))
    asked = jnp.broadcast_to(targets.any(-1), (pattern.shape[1], pattern.shape[3])).astype(pattern.dtype)
    return jnp.einsum("lbhq,bq->lh", mass, asked) / asked.sum()


def head_overlap(pattern: Float[Array, "L B H Q K"], target: Float[Array, "#B Q K"]) -> Float[Array, "L H"]:
    """How much of a pattern of your own a head has: mean over (b, q) with a target of Σ_k min(pattern, target).

    In [0, 1] where the rows of `target` sum to 1 (or to 0: such queries are left out): 1 if the head looks exactly so, 0 if
    it looks nowhere that `target` does; 1 less the total variation distance. For a set of keys, however shared among them,
    use `head_score`.
    """
    target = jnp.broadcast_to(target, _bqk(pattern)).astype(pattern.dtype)
    asked = (target > 0).any(-1).astype(pattern.dtype)
    shared = jnp.minimum(pattern, target[None, :, None]).sum(-1)
    return jnp.einsum("lbhq,bq->lh", shared, asked) / asked.sum()


def head_scores(pattern: Float[Array, "L B H P P"], tokens: Int[Array, "B P"]) -> HeadScores:
    """The three scores on any tokens."""
    kinds = (previous_targets(tokens.shape[1]), duplicate_targets(tokens), induction_targets(tokens))
    return HeadScores(*(head_score(pattern, targets) for targets in kinds))


def repeated_head_scores(pattern: Float[Array, "L B H P P"], period: int) -> HeadScores:
    """The three scores on sequences made of a segment of `period` tokens and its repetitions."""
    n = pattern.shape[-1]
    kinds = (previous_targets(n), repeat_targets(n, period, 0), repeat_targets(n, period, 1))
    return HeadScores(*(head_score(pattern, targets) for targets in kinds))


def previous_targets(n_positions: int) -> Bool[Array, "1 P P"]:
    """The key just before the query."""
    return jnp.eye(n_positions, k=-1, dtype=bool)[None]


def duplicate_targets(tokens: Int[Array, "B P"]) -> Bool[Array, "B P P"]:
    """Earlier keys that hold the query's token."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return same & jnp.tri(tokens.shape[1], k=-1, dtype=bool)


def induction_targets(tokens: Int[Array, "B P"]) -> Bool[Array, "B P P"]:
    """Keys that follow an earlier copy of the query's token."""
    return jnp.pad(duplicate_targets(tokens)[:, :, :-1], ((0, 0), (0, 0), (1, 0)))


def repeat_targets(n_positions: int, period: int, offset: int) -> Bool[Array, "1 P P"]:
    """For queries in the second copy and after, the key `offset` places after the query's own place one copy earlier."""
    query = jnp.arange(n_positions)[:, None]
    return ((jnp.arange(n_positions) == query - period + offset) & (query >= period))[None]


def uniform_pattern(n_positions: int) -> Float[Array, "1 1 1 P P"]:
    """The pattern of a head that looks at every visible key alike: the level that a score has to exceed."""
    visible = jnp.tri(n_positions)
    return (visible / visible.sum(-1, keepdims=True))[None, None, None]


def _bqk(pattern: Float[Array, "L B H Q K"]) -> tuple[int, int, int]:
    return pattern.shape[1], pattern.shape[3], pattern.shape[4]
