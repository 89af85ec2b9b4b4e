"""Contrast pairs from a user's JSONL, one pair per line, as text or as token ids:

    {"clean": "The key near the doors", "corrupted": "The keys near the doors",
     "answer": " is", "other": " are", "places": {"subject": "key"}}

"answer" and "other" are one word or token, or a list of them. A place is a word that occurs once in the clean text, or its
characters [start, end); of token ids, an index or [start, end). Its last token is meant. END, the last token of all, is added.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from interp_jax.data.contrast.pairs import END, Pairs
from interp_jax.data.contrast.rows import aligned
from interp_jax.data.contrast.text import Span, TextPair
from interp_jax.data.contrast.tokens import tokenize
from interp_jax.data.paths_io import as_json, expanded, numbered_lines
from interp_jax.data.tokenizer_io import Tokenizer
from interp_jax.errors import InputError, nearest

MOST = 2**31 - 1  # of a token id, an int32
FIELDS = ("clean", "corrupted", "answer", "other", "places")
SHAPES = {
    "text": 'as {"clean": "…", "corrupted": "…", "answer": " …", "other": " …"}',
    "ids": 'as {"clean": [1, 2], "corrupted": [1, 3], "answer": 4, "other": 5}',
}


class Line(NamedTuple):
    """One pair as it is written: its place in the file, for people, and its fields."""

    label: str
    clean: Any
    corrupted: Any
    answer: list[Any]
    other: list[Any]
    places: dict[str, Any]


def read_pairs(
    path: str | Path, tokenizer: Tokenizer | None = None, *, side: str = "left", bos: bool | None = None
) -> Pairs:
    """The pairs in a JSONL file; blank lines are passed over.

    Args:
      path: the file.
      tokenizer: of texts; token ids need none, and are taken as they are, with whatever BOS they have.
      side: where pairs that are shorter than the longest are padded.
      bos: of texts: None for what the tokenizer itself puts before one, True for exactly one BOS, False for none.

    Raises:
      InputError: names file, line and field: not JSON, an unknown or missing field, a value of the wrong kind, a place that is
        not in the text, places that differ between lines, text without a tokenizer; and what `tokenize` refuses.
    """
    lines = [_line(*numbered) for numbered in numbered_lines(expanded(path))]
    if not lines:
        raise InputError(f"{path}: holds no pair: one JSON object per line, {SHAPES['text']}")
    first = lines[0]
    for line in lines:
        if type(line.clean) is not type(first.clean):
            raise InputError(f"{line.label}: clean is {as_json(line.clean)}, in {first.label} {as_json(first.clean)}")
        if set(line.places) != set(first.places):
            odd = min(set(line.places) ^ set(first.places))
            raise InputError(f"{line.label}: places: {odd!r} is in this line or in {first.label}, and must be in both")
    return _of_texts(lines, tokenizer, side, bos) if isinstance(first.clean, str) else _of_ids(lines, side)


def _of_texts(lines: list[Line], tokenizer: Tokenizer | None, side: str, bos: bool | None) -> Pairs:
    if tokenizer is None:
        raise InputError(f"{lines[0].label}: clean is text: give a tokenizer, or token ids, {SHAPES['ids']}")
    texts = []
    for line in lines:
        places = {name: _characters(line, name, place) for name, place in line.places.items()}
        texts.append(TextPair(line.clean, line.corrupted, tuple(line.answer), tuple(line.other), places))
    return tokenize(texts, tokenizer, side=side, bos=bos, labels=[line.label for line in lines])


def _of_ids(lines: list[Line], side: str) -> Pairs:
    places = {END: [len(line.clean) - 1 for line in lines]}
    for name in lines[0].places:
        places[name] = [_index(line, name, line.places[name]) for line in lines]
    labels, clean, corrupted, answers, others, _ = map(list, zip(*lines, strict=True))
    return aligned(clean, corrupted, answers, others, places, side=side, labels=labels)


def _line(label: str, text: str) -> Line:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{label}: not JSON ({error.msg} at character {error.pos + 1}): one pair per line") from None
    if not isinstance(fields, dict):
        raise InputError(f"{label}: is {as_json(fields)}, and must be an object, {SHAPES['text']}")
    for name in fields:
        if name not in FIELDS:
            raise InputError(f"{label}: unknown field {name!r}: {nearest(name, FIELDS)}")
    for name in FIELDS[:-1]:
        if name not in fields:
            raise InputError(f"{label}: lacks the field {name!r}: give a pair {SHAPES['text']}")
    clean, places = fields["clean"], fields.get("places", {})
    if not isinstance(clean, str) and not _are_ids(clean):
        raise InputError(f"{label}: clean is {as_json(clean)}, and must be text or a list of token ids")
    corrupted, is_text = fields["corrupted"], isinstance(clean, str)
    if not (isinstance(corrupted, str) if is_text else _are_ids(corrupted)):
        kind = "text" if is_text else "a list of token ids"
        raise InputError(f"{label}: corrupted is {as_json(corrupted)}, and must be {kind}, as clean is")
    if not isinstance(places, dict):
        raise InputError(f"{label}: places is {as_json(places)}, and must be an object of names and places")
    answer, other = (_several(label, name, fields[name], is_text) for name in ("answer", "other"))
    return Line(label, clean, corrupted, answer, other, places)


def _several(label: str, field: str, value: Any, is_text: bool) -> list[Any]:
    """One word or token, or a list of them, as a list."""
    several = value if isinstance(value, list) else [value]
    if not (several and all(isinstance(x, str) and x for x in several) if is_text else _are_ids(several)):
        kind = "one word or a list of words" if is_text else "one token id or a list of them"
        raise InputError(f"{label}: {field} is {as_json(value)}, and must be {kind}, as clean is")
    return several


def _characters(line: Line, name: str, place: Any) -> Span:
    """The characters of a place in the clean text."""
    if isinstance(place, str) and place.strip():
        found = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(place.strip())}(?!\w)", line.clean)]
        if len(found) != 1:
            times = f"{len(found)} times: give its characters, as {list(found[1])}" if found else "nowhere"
            raise InputError(f"{line.label}: places: {name!r} is {place!r}, which the clean text has {times}")
        return found[0]
    if not _is_range(place, len(line.clean)):
        size = f"characters [start, end) of the clean text's {len(line.clean)}"
        raise InputError(f"{line.label}: places: {name!r} is {as_json(place)}, and must be a word or {size}")
    return place[0], place[1]


def _index(line: Line, name: str, place: Any) -> int:
    """The index of a place among the clean token ids."""
    span = place if isinstance(place, list) else [place, place + 1] if _are_ids([place]) else None
    if not _is_range(span, len(line.clean)):
        size = f"an index or [start, end) among the {len(line.clean)} tokens"
        raise InputError(f"{line.label}: places: {name!r} is {as_json(place)}, and must be {size}")
    return span[1] - 1


def _are_ids(value: Any) -> bool:
    numbers = isinstance(value, list) and all(isinstance(x, int) and not isinstance(x, bool) for x in value)
    return numbers and len(value) > 0 and min(value) >= 0 and max(value) <= MOST


def _is_range(value: Any, size: int) -> bool:
    return _are_ids(value) and len(value) == 2 and value[0] < value[1] <= size
