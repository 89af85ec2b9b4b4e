"""What a model is steered towards, by Python's own tokenize: where it is decided, what was decided, and the class of tokens.

    comments       after a line's end: a comment begins, or a statement              tokens that begin with #
    strings        where an operand begins: a string, or a name or a number           tokens with a quotation mark
    indentation    at the end of a statement: its next line is two steps deep or more, or less       newline, 7 spaces or more

Position p decides about token p + 1. Contrasts are between decision points of a kind: what they have in common is not steered.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from interp_jax.data.probing.python_source import BLANK, COMMENT, NAME, NUMBER, STRING
from interp_jax.data.probing.variables import NONE, Annotated
from interp_jax.errors import InputError

DEEP = 2  # steps of indentation


class Target(NamedTuple):
    """What is wanted, of windows of text.

    Attributes:
      name, about: for people.
      tokens: of its class.
      decides: positions that decide about the next token.
      positive: those after which the text did what is wanted.
    """

    name: str
    about: str
    tokens: Bool[np.ndarray, " V"]
    decides: Bool[np.ndarray, "W P"]
    positive: Bool[np.ndarray, "W P"]


class Source(NamedTuple):
    """What targets are read from: labels of windows, the text of each token of the vocabulary, and the tokenizer."""

    data: Annotated
    pieces: Sequence[str]
    tokenizer: Any = None

    def of(self, name: str) -> Int[np.ndarray, "W P"]:
        """Labels of a variable."""
        return self.data.labels[name]

    def has(self, pattern: str) -> Bool[np.ndarray, " V"]:
        """The tokens whose text a pattern finds."""
        return np.array([re.search(pattern, piece) is not None for piece in self.pieces])


def comments(source: Source) -> Target:
    """Comments that begin a line."""
    following = source.of("next class")
    decides = begins_line(source) & (source.of("in string") == 0) & (following != NONE) & (following != BLANK)
    return Target("comments", COMMENTS, source.has(r"^\s*#"), decides, decides & (following == COMMENT))


def begins_line(source: Source) -> Bool[np.ndarray, "W P"]:
    """Whether all of the line up to and with a token is blank; not before the first end of a line."""
    ends, blank = (source.has(pattern)[source.data.tokens] for pattern in (r"\n[ \t]*$", r"^[ \t]*$"))
    state = np.zeros(ends.shape, bool)
    for p in range(ends.shape[1]):
        state[:, p] = ends[:, p] | (blank[:, p] & (state[:, p - 1] if p else False))
    return state


def ahead(x: np.ndarray, n: int, fill: int | bool) -> np.ndarray:
    """What stands n positions later, [W P]."""
    return np.concatenate([x[:, n:], np.full((len(x), n), fill)], axis=1)


def strings(source: Source) -> Target:
    """Strings as operands."""
    outside = (source.of("in string") == 0) & (source.of("in comment") == 0)
    following = source.of("next class")
    within_word = source.has(r"\w$")[source.data.tokens] & ahead(source.has(r"^\w")[source.data.tokens], 1, False)
    decides = outside & ~within_word & np.isin(following, (NAME, NUMBER, STRING))
    return Target("strings", STRINGS, source.has("[\"']"), decides, decides & (following == STRING))


def indentation(source: Source) -> Target:
    """Depth of the next line."""
    newline = ahead(source.has("\n")[source.data.tokens], 1, False)
    statement_ends = (ahead(source.of("bracket depth"), 1, NONE) == 0) & (ahead(source.of("in string"), 1, NONE) == 0)
    depth = ahead(source.of("indentation"), 2, NONE)
    decides = newline & statement_ends & (depth != NONE)
    return Target("indentation", INDENTATION, source.has(r"\n {7,}$"), decides, decides & (depth >= DEEP))


COMMENTS = "after a line's end, a comment begins and not a statement"
STRINGS = "where an operand begins, it is a string and no name or number"
INDENTATION = "where a statement ends, the next line is two steps deep or more"
TARGETS: dict[str, Callable[[Source], Target]] = {
    "comments": comments,
    "strings": strings,
    "indentation": indentation,
}


def target_of(name: str, source: Source) -> Target:
    """A target that can be steered towards.

    Raises:
      InputError: the vocabulary has no token of its class, or the text decides it one way only.
    """
    found = TARGETS[name](source)
    if not found.tokens.any():
        raise InputError(f"targets: {name!r}: no token of the model is of its class; leave it out")
    for side, there in (("", found.positive), ("not ", found.decides & ~found.positive)):
        if there.sum() < 2:
            raise InputError(
                f"targets: {name!r}: at {int(there.sum())} positions of {source.data.source} it is {side}so ({found.about});"
                " give more reading.windows, or leave it out"
            )
    return found
