"""Variables of source code, token by token, aligned to a model's tokens by their characters, and windows to read them in.

A label is what one who reads from the left knows after the token: the state after its last character; `next class` is what the
token after it is, by its first character that is no blank. Windows begin where a statement does, outside of all brackets, so
that their tokens settle how many are open, and lie within one document, which is their group; none overlap.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Real

from interp_jax.data.probing.alignment import Span
from interp_jax.data.probing.python_source import BLANK, KINDS, Characters, read_characters
from interp_jax.data.probing.variables import NONE, Annotated, Variable, bin_names, binned
from interp_jax.errors import InputError

DEPTHS = (1, 2)
INDENTATIONS = (1, 2, 3)
COLUMNS = (8, 20, 40)
VARIABLES = {
    "bracket depth": Variable(bin_names(DEPTHS), "brackets that are open after the token"),
    "indentation": Variable(bin_names(INDENTATIONS), "steps by which the statement is indented"),
    "place in line": Variable(bin_names(COLUMNS), "characters of the line up to the token's end"),
    "in string": Variable(("no", "yes"), "whether the token ends within a string"),
    "in comment": Variable(("no", "yes"), "whether the token is of a comment"),
    "name repeats": Variable(("no", "yes"), "of a token that ends a name: whether the window had the name before"),
    "next class": Variable(KINDS, "what Python takes the next token for"),
    "open brackets": Variable((), "how many brackets are open after the token, as a number"),
    "column": Variable((), "characters of the line up to the token's end, as a number"),
}


class Tokenised(NamedTuple):
    """A source in tokens of a model: its name, text, ids and the characters of each."""

    name: str
    text: str
    ids: Sequence[int]
    spans: Sequence[Span]


class Tokens(NamedTuple):
    """Of each token of a document: labels of each variable but `name repeats`, the name that ends with it, what can begin."""

    labels: dict[str, Real[np.ndarray, " N"]]
    identifier: Int[np.ndarray, " N"]
    begins: Bool[np.ndarray, " N"]


def label_tokens(document: Tokenised) -> Tokens:
    """The labels of a document's tokens.

    Raises:
      InputError: it is no Python, or its tokens are not its text from the first character to the last.
    """
    check_spans(document)
    of = read_characters(document.text, document.name)
    begin, end = np.array(document.spans, np.int64).reshape(-1, 2).T
    last, first = end - 1, _first_visible(document, of)
    kind = np.where(first < end, of.kind[np.minimum(first, len(of.kind) - 1)], BLANK)
    labels = {
        "bracket depth": binned(of.depth[last], DEPTHS),
        "indentation": binned(of.indentation[last], INDENTATIONS),
        "place in line": binned(of.column[last], COLUMNS),
        "in string": of.in_string[last].astype(np.int32),
        "in comment": of.in_comment[last].astype(np.int32),
        "next class": np.append(kind[1:], NONE).astype(np.int32),
        "open brackets": of.depth[last].astype(np.float32),
        "column": of.column[last].astype(np.float32),
    }
    opens = of.begins[np.minimum(first, len(of.kind) - 1)] & (first < end) & (begin <= first)
    return Tokens(labels, of.identifier[last], opens)


def check_spans(document: Tokenised) -> None:
    """Raise `InputError` where tokens leave out text that is no blank, or run backwards: labels would be of other tokens."""
    at = 0
    for i, (begin, end) in enumerate(document.spans):
        if not at - 1 <= begin < end <= len(document.text) or document.text[at:begin].strip():
            raise InputError(
                f"{document.name}: token {i} is characters [{begin}, {end}), the one before ends at {at}: its span does not"
                " align with the text"
            )
        at = end
    if document.text[at:].strip():
        raise InputError(f"{document.name}: its tokens end at character {at} of {len(document.text)}")


def _first_visible(document: Tokenised, of: Characters) -> Int[np.ndarray, " N"]:
    """The first character of each token that is no blank, or one that lies behind it."""
    n = len(document.text)
    visible = np.array([not c.isspace() for c in document.text], bool)
    following = np.where(visible, np.arange(n), n)
    following = np.minimum.accumulate(following[::-1])[::-1]
    return following[np.array([begin for begin, _ in document.spans])]


def windows_of(documents: Sequence[Tokenised], count: int, length: int, source: str) -> Annotated:
    """At most `count` windows, spread evenly over all that there are.

    Raises:
      InputError: no document that is Python has a window.
    """
    places: list[tuple[int, int]] = []
    tokens: list[Tokens | None] = []
    left_out: list[str] = []
    for d, document in enumerate(documents):
        try:
            tokens.append(label_tokens(document))
        except InputError as error:
            tokens.append(None)
            left_out.append(str(error))
            continue
        places += [(d, start) for start in starts(tokens[-1], length)]
    if not places:
        why = f", such as {left_out[0]}" if left_out else ""
        raise InputError(f"{source}: none of its {len(documents)} documents has {length} tokens of Python{why}")
    kept = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, count).astype(int))]
    groups = {d: g for g, d in enumerate(dict.fromkeys(d for d, _ in kept))}
    cut = lambda of: np.stack([of(d)[start : start + length] for d, start in kept])
    labels = {name: cut(lambda d, name=name: tokens[d].labels[name]) for name in VARIABLES if name != "name repeats"}
    labels["name repeats"] = repeats(cut(lambda d: tokens[d].identifier))
    return Annotated(
        tokens=cut(lambda d: np.asarray(documents[d].ids, np.int32)),
        positions=np.arange(length, dtype=np.int32)[None],
        labels={name: labels[name] for name in VARIABLES},
        variables=VARIABLES,
        group=np.array([groups[d] for d, _ in kept], np.int32),
        names=tuple(documents[d].name for d in groups),
        left_out=tuple(left_out),
        source=source,
    )


def starts(tokens: Tokens, length: int) -> list[int]:
    """Where windows begin: at a statement, the first one that the window before leaves room for."""
    found, free = [], 0
    for i in np.flatnonzero(tokens.begins).tolist():
        if i >= free and i + length <= len(tokens.begins):
            found.append(i)
            free = i + length
    return found


def repeats(identifier: Int[np.ndarray, "W P"]) -> Int[np.ndarray, "W P"]:
    """Whether the name that ends with a token ended with one before it in the window; -1 where none ends."""
    labels = np.full(identifier.shape, NONE, np.int32)
    for row, label in zip(identifier, labels, strict=True):
        at = np.flatnonzero(row >= 0)
        _, first = np.unique(row[at], return_index=True)
        label[at] = 1
        label[at[first]] = 0
    return labels
