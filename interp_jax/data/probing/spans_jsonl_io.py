"""A person's examples from JSONL, one per line: a text, a stretch of it, and what a probe should say there.

    {"text": "the dogs near the cat vanished.", "span": [0, 3], "label": "many", "group": "animals"}

"span" is characters [start, end), or a word that occurs once; it must begin and end where tokens do, but for blanks before it,
and its last token is read. "label" is a word, an integer, true or false, each of which is a class; or a number with a point,
such as 2.5, and then labels are numbers, which a probe is to say. Lines of one "group" stay on one side of every split; by
default those of one text do. No probe is fitted on lines with "split": "elsewhere", which are of another distribution: what is
read of them stands by itself.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interp_jax.data.paths_io import as_json, expanded, numbered_lines
from interp_jax.data.probing.alignment import Span, tokens_of
from interp_jax.data.probing.variables import NONE, Annotated, Variable
from interp_jax.data.tokenizer_io import Tokenizer, encode
from interp_jax.errors import InputError, nearest

FIELDS = ("text", "span", "label", "group", "split")
REQUIRED = FIELDS[:3]
ELSEWHERE = "elsewhere"
EXAMPLE = 'as {"text": "the dogs ran", "span": [4, 8], "label": "many"}'
VARIABLE = "label"


Label = str | int | bool | float


class Line(NamedTuple):
    """One example: its place in the file, for people, and its fields."""

    name: str
    text: str
    span: Span
    label: Label
    group: str
    elsewhere: bool


def read_examples(path: str | Path, tokenizer: Tokenizer, most_positions: int) -> Annotated:
    """The examples in a JSONL file; blank lines are passed over.

    Args:
      path: the file.
      tokenizer: of the model; what it puts around texts is kept.
      most_positions: tokens that the model can read at once.

    Raises:
      InputError: names file, line and field or span: not JSON, an unknown or missing field, a value of the wrong kind, a span
        that is not in the text or cuts a token, a text that is too long; a group on both sides of the split; or all labels
        are one.
    """
    lines = [_line(*numbered) for numbered in numbered_lines(expanded(path))]
    if not lines:
        raise InputError(f"{path}: holds no example: one JSON object per line, {EXAMPLE}")
    _check_groups(lines)
    number = any(type(line.label) is float for line in lines)
    values = _numbers(lines, path) if number else _values(lines, path)
    rows = encode(tokenizer, [line.text for line in lines])
    tokens, positions = np.asarray(rows.tokens), np.asarray(rows.positions)
    labels = np.full(tokens.shape, np.nan, np.float32) if number else np.full(tokens.shape, NONE, np.int32)
    bare = tokenizer.backend.encode_batch([line.text for line in lines], add_special_tokens=False)
    for i, (line, encoding) in enumerate(zip(lines, bare, strict=True)):
        if (n := int((positions[i] >= 0).sum())) > most_positions:
            raise InputError(f"{line.name}: the text has {n} tokens, more than the model's {most_positions} positions")
        at = tokens_of(line.span, encoding.offsets, line.text, line.name)[-1]
        labels[i, len(tokenizer.prefix) + at] = line.label if number else values.index(_shown_label(line.label))
    groups = {name: g for g, name in enumerate(dict.fromkeys(line.group for line in lines))}
    return Annotated(
        tokens=tokens.astype(np.int32),
        positions=positions.astype(np.int32),
        labels={VARIABLE: labels},
        variables={VARIABLE: Variable(values, f"the label in {Path(path).name}, read at the last token of the span")},
        group=np.array([groups[line.group] for line in lines], np.int32),
        names=tuple(groups),
        left_out=(),
        source=str(path),
        elsewhere=np.array([line.elsewhere for line in lines]) if any(line.elsewhere for line in lines) else None,
    )


def _check_groups(lines: list[Line]) -> None:
    """Raise where a group, or a text, is elsewhere in one line and not in another."""
    seen: dict[tuple[str, str], Line] = {}
    for line in lines:
        for what, name in (("group", line.group), ("text", line.text)):
            first = seen.setdefault((what, name), line)
            if first.elsewhere != line.elsewhere:
                one, other = (f'"split": "{ELSEWHERE}"', "none")[:: 1 if line.elsewhere else -1]
                raise InputError(f"{line.name}: has {one}, and {first.name}, of the same {what}, has {other}")


def _line(name: str, text: str) -> Line:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name}: not JSON ({error.msg} at character {error.pos + 1}): one example per line"
        ) from None
    if not isinstance(fields, dict):
        raise InputError(f"{name}: is {as_json(fields)}, and must be an object, {EXAMPLE}")
    for field in fields:
        if field not in FIELDS:
            raise InputError(f"{name}: unknown field {field!r}: {nearest(field, FIELDS)}")
    for field in REQUIRED:
        if field not in fields:
            raise InputError(f"{name}: lacks the field {field!r}: give an example {EXAMPLE}")
    text, label, group = fields["text"], fields["label"], fields.get("group", fields["text"])
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{name}: text is {as_json(text)}, and must be a text that is not empty")
    if not isinstance(label, Label) or label == "" or label != label or label in (math.inf, -math.inf):
        raise InputError(f"{name}: label is {as_json(label)}, and must be a word, a number, true or false")
    if not isinstance(group, str) or not group:
        raise InputError(f"{name}: group is {as_json(group)}, and must be a word")
    if fields.get("split", ELSEWHERE) != ELSEWHERE:
        raise InputError(f"{name}: split is {as_json(fields['split'])}, and must be {ELSEWHERE!r}, or left out")
    return Line(name, text, _characters(name, text, fields["span"]), label, group, "split" in fields)


def _characters(name: str, text: str, span: Any) -> Span:
    """The characters of a span, given as such or as a word."""
    if isinstance(span, str) and span.strip():
        found = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(span.strip())}(?!\w)", text)]
        if len(found) != 1:
            times = f"{len(found)} times: give its characters, as {list(found[1])}" if found else "nowhere"
            raise InputError(f"{name}: span is {span!r}, which the text has {times}")
        return found[0]
    whole = isinstance(span, list) and len(span) == 2 and all(type(x) is int for x in span)
    if not whole or not 0 <= span[0] < span[1] <= len(text):
        size = f"a word or characters [start, end) of the text's {len(text)}"
        raise InputError(f"{name}: span is {as_json(span)}, and must be {size}")
    if not text[span[0] : span[1]].strip():
        raise InputError(f"{name}: span {span} is nothing but blanks")
    return span[0], span[1]


def _values(lines: list[Line], path: str | Path) -> tuple[str, ...]:
    """The values of the labels, all of one kind, in order."""
    first = lines[0]
    for line in lines:
        if type(line.label) is not type(first.label):
            raise InputError(
                f"{line.name}: label is {as_json(line.label)}, and must be of the kind that {first.name} has,"
                f" {as_json(first.label)}"
            )
    values = tuple(_shown_label(label) for label in sorted({line.label for line in lines}))
    if len(values) == 1:
        raise InputError(f"{path}: all {len(lines)} labels are {values[0]!r}: a probe needs at least two classes")
    return values


def _numbers(lines: list[Line], path: str | Path) -> tuple[str, ...]:
    """No values, where all labels are numbers that are not all the same."""
    first = next(line for line in lines if type(line.label) is float)
    for line in lines:
        if type(line.label) not in (int, float):
            raise InputError(
                f"{line.name}: label is {as_json(line.label)}, and must be a number, as {first.name} has {as_json(first.label)}"
            )
    if len({line.label for line in lines}) == 1:
        raise InputError(f"{path}: all {len(lines)} labels are {first.label}: there is nothing to tell")
    return ()


def _shown_label(label: Label) -> str:
    return label if isinstance(label, str) else json.dumps(label)
