"""Contrast pairs as text, and how templates make them: one frame, filled twice.

    frame      "When {IO} and {S1} came home, {S2} smiled at"
    clean      IO = Mary, S1 = S2 = John        answer " Mary"
    corrupted  the same with some blanks filled otherwise

A template chooses its words by a row of random numbers of its own, so that example i of a seed never depends on how many there
are. Every word that it may choose is one token of the tokenizer, so that both sides are equally long, blank by blank.
"""

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from interp_jax import randomness

Span = tuple[int, int]  # characters [start, end) of the clean text; a place is the last token that overlaps it
Pools = Mapping[str, tuple[Any, ...]]  # a word, or a tuple of words that belong together, is one entry
Numbers = Iterator[int]
Fits = Callable[[str, str], bool]  # (text before, word): whether the word adds exactly one known token to the text

N_NUMBERS = 32  # random numbers that an example may use up


class TextPair(NamedTuple):
    """A pair of prompts as text.

    Attributes:
      clean: the prompt whose continuation is the answer.
      corrupted: its counterpart.
      answers: what is right on the clean side, written as it follows the prompt: " Mary" and not "Mary".
      others: what the answers are measured against, likewise.
      places: named spans of characters of the clean text. The last token that overlaps a span is meant; the span of one
        character means the token that holds it. END need not be named.
    """

    clean: str
    corrupted: str
    answers: tuple[str, ...]
    others: tuple[str, ...]
    places: Mapping[str, Span]


@dataclass(frozen=True)
class Template:
    """A family of contrast pairs.

    Attributes:
      about: what is asked, and the paper.
      corruptions: how the other side is made, the first by default, and how many entries each needs of pools that must
        have more than two.
      frames: texts with named blanks; each blank is a place.
      pools: the words for the blanks.
      write: (frame, pools, corruption, random numbers) -> the pair; None where there is no text, only tokens.
      narrow: (pools, fits) -> the pools less what does not fit a tokenizer.
    """

    about: str
    corruptions: Mapping[str, Mapping[str, int]]
    frames: tuple[str, ...] = ()
    pools: Pools | None = None
    write: Callable[[str, Pools, str, Numbers], TextPair] | None = None
    narrow: Callable[[Pools, Fits], Pools] | None = None


def fill(frame: str, words: Mapping[str, str]) -> tuple[str, dict[str, Span]]:
    """The frame with its blanks filled, and where each lies."""
    text, spans = "", {}
    for literal, blank, _, _ in string.Formatter().parse(frame):
        text += literal
        if blank is not None:
            spans[blank] = (len(text), len(text) + len(words[blank]))
            text += words[blank]
    return text, spans


def contrast(
    frame: str, words: Mapping[str, str], changed: Mapping[str, str], answers: Sequence[str], others: Sequence[str]
) -> TextPair:
    """The frame filled with `words`, and with `changed` in their place."""
    clean, places = fill(frame, words)
    return TextPair(clean, fill(frame, {**words, **changed})[0], tuple(answers), tuple(others), places)


def after(text: str, span: Span) -> Span:
    """The first character after a span that is no space: what the token behind a word begins with."""
    at = re.compile(r"\S").search(text, span[1])
    return (at.start(), at.end()) if at else span


def numbers(seed: int, stream: str, n: int) -> list[Numbers]:
    """Random numbers for each of `n` examples."""
    return [iter(row) for row in np.asarray(randomness.counter_bits(seed, stream, 0, (n, N_NUMBERS))).tolist()]


def one(pool: Sequence[Any], draw: Numbers) -> Any:
    """An entry of a pool."""
    return pool[next(draw) % len(pool)]


def several(pool: Sequence[Any], n: int, draw: Numbers) -> list[Any]:
    """`n` different entries of a pool."""
    left = list(pool)
    return [left.pop(next(draw) % len(left)) for _ in range(n)]


def single(pools: Pools, fits: Fits) -> Pools:
    """The entries all of whose words are single tokens after a space."""
    return {name: tuple(e for e in pool if all(fits("a", f" {w}") for w in parts(e))) for name, pool in pools.items()}


def parts(entry: str | tuple[str, ...]) -> tuple[str, ...]:
    """The words of a pool's entry."""
    return (entry,) if isinstance(entry, str) else entry
