"""Tokens as text, and text as tokens: by a model's tokenizer, as letters, or as ids."""

from collections.abc import Sequence

import numpy as np

from interp_jax.data import tokenizer_io
from interp_jax.errors import InputError
from interp_jax.experiments.subjects.model import Subject


def prefix_of(subject: Subject) -> tuple[int, ...]:
    """What the tokenizer puts before every text, such as a BOS."""
    return subject.tokenizer.prefix if subject.tokenizer else ()


def token_of(text: str, option: str, subject: Subject) -> int:
    """The one token that `text` is, -1 for no text; an id where tokens are ids.

    Raises:
      InputError: it is none, or several, which are then named.
    """
    if not text:
        return -1
    if not subject.letters and subject.tokenizer is None:
        if not text.isdecimal() or int(text) >= subject.cfg.d_vocab:
            last = subject.cfg.d_vocab - 1
            raise InputError(f"--config.{option} = {text!r}: without a tokenizer it is an id from 0 to {last}")
        return int(text)
    ids = split(text, subject)
    if len(ids) != 1:
        spaced = f" {text}"
        hint = f"; did you mean {spaced!r}, which is one?" if can_be_one(spaced, subject) else ""
        parts = ", ".join(map(repr, names_of(ids, subject)))
        raise InputError(f"--config.{option} = {text!r} is not one token but {len(ids)}: {parts}{hint}")
    return ids[0]


def can_be_one(text: str, subject: Subject) -> bool:
    """Whether a text is one token of the tokenizer."""
    return subject.tokenizer is not None and len(split(text, subject)) == 1


def split(text: str, subject: Subject) -> list[int]:
    """The ids of a text, without special tokens around it."""
    if subject.tokenizer is not None:
        return tokenizer_io.ids_of(subject.tokenizer, [text])[0]
    if unknown := [c for c in text if c not in subject.letters]:
        raise InputError(f"{unknown[0]!r} is no token of {subject.name}: its tokens are the letters {subject.letters}")
    return [subject.letters.index(c) for c in text]


def names_of(ids: Sequence[int] | np.ndarray, subject: Subject) -> list[str]:
    """The text of each token; ids as they are where they stand for none."""
    if subject.tokenizer is not None:
        return tokenizer_io.pieces(subject.tokenizer, np.asarray(ids, np.int32)[None])[0]
    return [subject.letters[i] if subject.letters else str(i) for i in map(int, ids)]
