"""Sequences that repeat themselves, to measure and to grow copying: all synthetic, except where segments of text are given.

All are pure functions of (seed, step). Token 0 (the end of a document) never appears in random ones.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Integer

from interp_jax import randomness

Scalar = Integer[Array, ""] | int


def repeated(segments: Int[Array, "B T"], copies: int = 2) -> Int[Array, "B P"]:
    """Each segment, `copies` times over: P = copies T."""
    return jnp.tile(segments, (1, copies))


def repeated_random(seed: Scalar, step: Scalar, batch: int, period: int, d_vocab: int) -> Int[Array, "B P"]:
    """Uniformly random tokens, then the same again: P = 2 period. What comes is known only from the first copy."""
    draw = randomness.key(seed, "sequences.repeated_random", step)
    return repeated(jax.random.randint(draw, (batch, period), 1, d_vocab))


def induction_batch(seed: Scalar, step: Scalar, batch: int, length: int, d_vocab: int) -> Int[Array, "B P"]:
    """Random segments that repeat until the row is full, each row with a period of its own, from length/8 to length/2.

    The period varies, so that no fixed distance tells what comes next: a model has to find the earlier copy by content.
    """
    periods = randomness.key(seed, "sequences.period", step)
    tokens = randomness.key(seed, "sequences.tokens", step)
    period = jax.random.randint(periods, (batch, 1), max(2, length // 8), length // 2 + 1)
    segment = jax.random.randint(tokens, (batch, length), 1, d_vocab)
    return jnp.take_along_axis(segment, jnp.arange(length)[None] % period, axis=1)
