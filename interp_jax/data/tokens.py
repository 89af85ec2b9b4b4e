"""Rows of tokens of unequal length as one array: padding and positions.

The positions say what is padding: they are 0, 1, ... over the real tokens of a row and -1 elsewhere. A token at position -1
is neither attended to nor written to a cache, so its id does not matter, and padding may lie left, right or in between.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Integer

from interp_jax.errors import InputError, nearest

PADDING = -1  # the position of what is no token
SIDES = ("left", "right")

Tokens = Integer[Array, "B P"] | Integer[np.ndarray, "B P"]
Positions = Integer[Array, "#B P"] | Integer[np.ndarray, "#B P"]


class Batch(NamedTuple):
    """Tokens [B P], int32, and their positions [B P], int32: -1 on padding."""

    tokens: Int[Array, "B P"]
    positions: Int[Array, "B P"]


def pad(rows: Sequence[Sequence[int]], side: str = "right", length: int | None = None, fill: int = 0) -> Batch:
    """The rows as one batch, padded on `side` ("left" or "right") with `fill` to `length`, else to the longest row.

    Raises:
      InputError: no rows, a row without tokens, a row longer than `length`, or an unknown side.
    """
    if side not in SIDES:
        raise InputError(f"side = {side!r}: {nearest(side, SIDES)}")
    if len(rows) == 0:
        raise InputError("no rows of tokens to pad: a batch needs at least one")
    if length is not None and length < 1:
        raise InputError(f"length = {length}: must be at least 1")
    width = max(len(row) for row in rows) if length is None else length
    tokens = np.full((len(rows), width), fill, np.int32)
    positions = np.full((len(rows), width), PADDING, np.int32)
    for i, row in enumerate(rows):
        n = len(row)
        if n == 0:
            raise InputError(f"rows[{i}] has no tokens: it would be nothing but padding")
        if n > width:
            raise InputError(f"rows[{i}] has {n} tokens, more than length = {length}")
        place = slice(0, n) if side == "right" else slice(width - n, width)
        tokens[i, place] = row
        positions[i, place] = np.arange(n)
    return Batch(jnp.asarray(tokens), jnp.asarray(positions))


def unpad(tokens: Tokens, positions: Positions | None = None) -> list[list[int]]:
    """The real tokens of each row, the inverse of `pad`: those at position 0 and above; all of them without positions."""
    tokens = np.asarray(tokens)
    real = np.ones(tokens.shape, bool) if positions is None else np.asarray(positions) >= 0
    return [row[mask].tolist() for row, mask in zip(tokens, np.broadcast_to(real, tokens.shape), strict=True)]


def positions_of(mask: Bool[Array, "B P"]) -> Int[Array, "B P"]:
    """The positions where `mask` marks the real tokens, wherever the padding lies: 0, 1, ... on them and -1 elsewhere."""
    return jnp.where(mask, jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, PADDING)


def last_rows(positions: Int[Array, "B P"]) -> Int[Array, " B"]:
    """The index along P of each row's last real token, where its next token is predicted; -1 in a row of only padding."""
    index = jnp.arange(positions.shape[1], dtype=jnp.int32)
    return jnp.where(positions >= 0, index, PADDING).max(axis=1, initial=PADDING)
