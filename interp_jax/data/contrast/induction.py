"""Induction as contrast pairs of random tokens, for any model, with or without a tokenizer: … A B … A -> B.

A segment of different tokens is repeated, and the row ends at the second A; what follows the first one is the answer. Each row
has a period of its own, so that no fixed distance tells it. X is a token that the clean row lacks. Corruptions:

    key         the first A becomes X: nothing says that B follows A
    successor   B becomes X: X is the answer

On both corrupted sides X occurs exactly as often as B, so that a model which copies tokens of its context without looking up A
does not tell them apart; X is what the answer is measured against. The pattern is that of Olsson et al. 2022, "In-context
Learning and Induction Heads".
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from interp_jax import randomness
from interp_jax.data.contrast.pairs import END, Pairs, Scalar
from interp_jax.data.contrast.text import Template
from interp_jax.errors import InputError, nearest

INDUCTION = Template(
    about="the token that followed the last one before (Olsson et al. 2022); random tokens, no text",
    corruptions={"key": {}, "successor": {}},
)


def induction(
    seed: Scalar, n: int, length: int, d_vocab: int, corruption: str = "key", bos: int | None = None
) -> Pairs:
    """`n` pairs of `length` tokens; example i does not depend on `n`.

    Args:
      seed: of the draws.
      n: how many.
      length: P, with the BOS; the distance between the two A goes from half of it to all but two.
      d_vocab: tokens are drawn from 1 to d_vocab - 1, all of a segment different, none of them `bos`.
      corruption: "key" or "successor".
      bos: a token that every row begins with.

    Returns:
      Pairs with the places A (the first one), B and END (the second A); one answer, one other, and no padding.

    Raises:
      InputError: an unknown corruption, no examples, a length without room for A B … A, or too few tokens for it.
    """
    P = length - (bos is not None)
    n_tokens = d_vocab - 1 - bool(bos)
    if corruption not in INDUCTION.corruptions:
        raise InputError(f"corruption = {corruption!r}: {nearest(corruption, INDUCTION.corruptions)}")
    if n < 1 or P < 5:
        raise InputError(f"{n} examples of {length} tokens: must be at least 1 of {5 + length - P}")
    if n_tokens < P - 1:
        raise InputError(
            f"length = {length} needs {P - 1} different tokens, but d_vocab = {d_vocab} has {n_tokens} to draw from: at"
            f" most {n_tokens + 1 + length - P}"
        )
    return _draw(seed, n, length, n_tokens, corruption == "successor", bos)


@partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _draw(seed: Scalar, n: int, length: int, n_tokens: int, successor: bool, bos: int | None) -> Pairs:
    shift = bos is not None
    P = length - shift
    segment = _different(seed, n, P - 1, n_tokens)
    segment = segment + (segment >= bos) if bos else segment
    period = jax.random.randint(randomness.key(seed, "contrast.period"), (n, 1), P // 2 + 1, P - 1, jnp.int32)
    column, first = jnp.arange(P, dtype=jnp.int32), P - 1 - period
    clean = jnp.take_along_axis(segment, column % period, axis=1)
    x = segment[:, -1:]  # periods end before the last of a segment, so the row has no x
    sides = clean, jnp.where(column == first + successor, x, clean)
    answers = jnp.take_along_axis(clean, first + 1, axis=1)
    clean, corrupted = (jnp.pad(rows, ((0, 0), (shift, 0)), constant_values=bos or 0) for rows in sides)
    at = first[:, 0] + shift
    places = {"A": at, "B": at + 1, END: jnp.full(n, length - 1, jnp.int32)}
    return Pairs(clean, corrupted, jnp.arange(length, dtype=jnp.int32)[None], answers, x, places)


def _different(seed: Scalar, n: int, length: int, n_tokens: int) -> Int[Array, "B P"]:
    """Rows of different tokens of 1 … n_tokens, in random order: where the largest of as many random numbers are."""
    key = randomness.key(seed, "contrast.segment")

    def row(i: Int[Array, ""]) -> Int[Array, " P"]:
        return jax.lax.top_k(jax.random.uniform(jax.random.fold_in(key, i), (n_tokens,)), length)[1] + 1

    return jax.lax.map(row, jnp.arange(n))  # one row at a time: each draws a number for every token of the vocabulary
