"""What the models read: rows padded on the left, on the right and not at all; and a long row without padding."""

from typing import NamedTuple

import numpy as np

SEED = 0
LENGTH, LEFT, RIGHT = 12, 3, 2
LONG = 40  # more than one block of queries


class Batch(NamedTuple):
    """Rows of tokens.

    Attributes:
      tokens: [B P]
      positions: [B P] as ours, -1 marks padding; None where there is none.
      types: [B P] token types.
    """

    tokens: np.ndarray
    positions: np.ndarray | None
    types: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """[B P], false for padding."""
        return np.ones(self.tokens.shape, bool) if self.positions is None else self.positions >= 0


def padded(vocabulary: int) -> Batch:
    """Three rows: whole, padded on the left, padded on the right."""
    rng = np.random.default_rng(SEED)
    tokens = rng.integers(0, vocabulary, (3, LENGTH))
    positions = np.stack([np.arange(LENGTH)] * 3)
    positions[1] -= LEFT
    positions[1, :LEFT] = positions[2, -RIGHT:] = -1
    return Batch(tokens, positions, rng.integers(0, 2, tokens.shape))


def long(vocabulary: int) -> Batch:
    """One row."""
    rng = np.random.default_rng(SEED + 1)
    tokens = rng.integers(0, vocabulary, (1, LONG))
    return Batch(tokens, None, rng.integers(0, 2, tokens.shape))


def projection(shape: tuple[int, ...]) -> np.ndarray:
    """What the outputs are multiplied by to get the scalar whose gradient is taken; float64."""
    return np.random.default_rng(SEED + 2).standard_normal(shape)
