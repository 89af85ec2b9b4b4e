"""Labels of a whole stream of documents' tokens, as models are measured on: windows of it may begin and end anywhere.

Labels are those of `source_labels.py`; numbers are left out. A document that is no Python has none, and neither has the token
that ends a document. Whether a text is Python is asked of its parser: `tokenize` takes much prose for names in a row.
"""

import ast
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from interp_jax.data.probing.source_labels import VARIABLES, Tokenised, label_tokens, repeats
from interp_jax.data.probing.variables import NONE, Variable
from interp_jax.errors import InputError

REPEATS = "name repeats"  # what only a window settles


class LabelledStream(NamedTuple):
    """Labels of every token of a stream; `NONE` where there is none.

    Attributes:
      labels: by variable, but for `name repeats`.
      identifier: which name of the stream ends with the token; `NONE` where none does.
      variables: all of them, `name repeats` too.
      documents: which have labels, and all.
    """

    labels: dict[str, Int[np.ndarray, " N"]]
    identifier: Int[np.ndarray, " N"]
    variables: dict[str, Variable]
    documents: tuple[int, int]


def label_stream(documents: Sequence[Tokenised], ends: int) -> LabelledStream:
    """The labels of documents' tokens one after the other, each followed by `ends` tokens that end it."""
    variables = {name: variable for name, variable in VARIABLES.items() if variable.values}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in variables if name != REPEATS}
    identifiers, names, labelled = [], 0, 0
    for document in documents:
        n = len(document.ids)
        found = labels_of(document)
        labelled += found is not None
        labels, identifier = found or ({}, np.full(n, NONE, np.int32))
        for name, part in parts.items():
            part.append(np.append(labels.get(name, np.full(n, NONE, np.int32)), [NONE] * ends))
        identifiers.append(np.append(np.where(identifier >= 0, identifier + names, NONE), [NONE] * ends))
        names += int(identifier.max(initial=NONE)) + 1
    joined = lambda of: np.concatenate(of).astype(np.int32) if of else np.zeros(0, np.int32)
    labels = {name: joined(part) for name, part in parts.items()}
    return LabelledStream(labels, joined(identifiers), variables, (labelled, len(documents)))


def labels_of(document: Tokenised) -> tuple[dict[str, Int[np.ndarray, " N"]], Int[np.ndarray, " N"]] | None:
    """A document's labels, and the names that end with its tokens; None of one that is no Python."""
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            ast.parse(document.text)
        found = label_tokens(document) if document.ids else None
    except (SyntaxError, ValueError, InputError, RecursionError, MemoryError):
        return None
    return found and (found.labels, found.identifier)


def in_windows(stream: LabelledStream, at: Int[np.ndarray, "W P"]) -> Int[np.ndarray, "V W P"]:
    """Labels of windows of these places in the stream, variable by variable."""
    of = lambda name: repeats(stream.identifier[at]) if name == REPEATS else stream.labels[name][at]
    return np.stack([of(name) for name in stream.variables]).astype(np.int32)
