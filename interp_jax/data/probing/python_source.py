"""What every character of a Python source is, by Python's own `tokenize`.

    def f(x):  # twice        kind      name, keyword, number, string, comment, operator or blank
        return (2 * x)        depth     brackets that are open after the character
                              indentation, column, in_string, in_comment, identifier: see `Characters`

What is said of a character is the state *after* it: what one who reads from the left knows there. Between the quotes of an
f-string all is string, so that every version of Python says the same.
"""

import io
import keyword
import token
import tokenize
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from interp_jax.errors import InputError

KINDS = ("blank", "name", "keyword", "number", "string", "comment", "operator")
BLANK, NAME, KEYWORD, NUMBER, STRING, COMMENT, OPERATOR = range(len(KINDS))
PLAIN = {token.NUMBER: NUMBER, token.STRING: STRING, token.COMMENT: COMMENT, token.OP: OPERATOR}
SILENT = {token.NEWLINE, token.NL, token.ENDMARKER}
BRACKETS = {**dict.fromkeys("([{", 1), **dict.fromkeys(")]}", -1)}


class Characters(NamedTuple):
    """Of each character.

    Attributes:
      kind: index in `KINDS`.
      depth: brackets that are open after it.
      indentation: steps by which its statement is indented.
      column: characters of its line up to and with it; 0 after a line's end.
      in_string: whether more of the string is to come after it, the closing quotes too.
      in_comment: whether it is of a comment: only the line's end closes one.
      identifier: which name ends with it, as an index; -1 where none does.
      begins: whether a statement begins with it.
    """

    kind: Int[np.ndarray, " C"]
    depth: Int[np.ndarray, " C"]
    indentation: Int[np.ndarray, " C"]
    column: Int[np.ndarray, " C"]
    in_string: Bool[np.ndarray, " C"]
    in_comment: Bool[np.ndarray, " C"]
    identifier: Int[np.ndarray, " C"]
    begins: Bool[np.ndarray, " C"]


class Piece(NamedTuple):
    """A token of Python, or an f-string as a whole: what it is and its characters."""

    kind: int
    start: int
    end: int


def read_characters(text: str, name: str) -> Characters:
    """Every character of a source.

    Args:
      text: the source.
      name: what errors call it.

    Raises:
      InputError: this Python does not take it for Python; names the line.
    """
    n = len(text)
    kind, identifier = np.full(n, BLANK, np.int32), np.full(n, -1, np.int32)
    opened, indented = np.zeros(n + 1, np.int32), np.zeros(n + 1, np.int32)
    in_string, begins = np.zeros(n, bool), np.zeros(n, bool)
    names: dict[str, int] = {}
    fresh = True
    for type_, piece in _pieces(text, name):
        if type_ in (token.INDENT, token.DEDENT):
            line = text.rfind("\n", 0, piece.start) + 1
            indented[line] += 1 if type_ == token.INDENT else -1
            continue
        if type_ in SILENT:
            fresh |= type_ == token.NEWLINE
            continue
        kind[piece.start : piece.end] = piece.kind
        if piece.kind != COMMENT:
            begins[piece.start], fresh = fresh, False
        if piece.kind == STRING:
            in_string[piece.start : piece.end - 1] = True
        elif piece.kind == NAME:
            identifier[piece.end - 1] = names.setdefault(text[piece.start : piece.end], len(names))
        elif piece.kind == OPERATOR:
            opened[piece.start] = BRACKETS.get(text[piece.start], 0)
    lines = np.cumsum(np.array([c == "\n" for c in text], bool))
    ends = np.append(-1, np.flatnonzero(np.array([c == "\n" for c in text], bool)))
    column = np.where(np.array([c == "\n" for c in text], bool), 0, np.arange(n) - ends[lines])
    return Characters(
        kind=kind,
        depth=np.cumsum(opened[:n]).astype(np.int32),
        indentation=np.cumsum(indented[:n]).astype(np.int32),
        column=column.astype(np.int32),
        in_string=in_string,
        in_comment=kind == COMMENT,
        identifier=identifier,
        begins=begins,
    )


def _pieces(text: str, name: str) -> list[tuple[int, Piece]]:
    """The tokens in order, with their types; an f-string is one."""
    starts = np.append(0, np.flatnonzero(np.array([c == "\n" for c in text], bool)) + 1)
    at = lambda place: min(int(starts[min(place[0] - 1, len(starts) - 1)]) + place[1], len(text))
    found: list[tuple[int, Piece]] = []
    open_strings: list[int] = []
    for type_, string, start, end, _ in _tokens(text, name):
        told = token.tok_name[type_]
        if told.endswith("STRING_START"):
            open_strings.append(at(start))
        elif told.endswith("STRING_END"):
            begin = open_strings.pop()
            if not open_strings:
                found.append((token.STRING, Piece(STRING, begin, at(end))))
        elif not open_strings:
            if type_ == token.ERRORTOKEN:
                raise InputError(f"{name}, line {start[0]}: {string!r} is no Python")
            kind = (KEYWORD if keyword.iskeyword(string) else NAME) if type_ == token.NAME else PLAIN.get(type_, BLANK)
            piece = Piece(kind, at(start), at(end))
            if kind != BLANK and text[piece.start : piece.end] != string:
                raise InputError(f"{name}, line {start[0]}: {string!r} is not where tokenize says")
            found.append((type_, piece))
    return found


def _tokens(text: str, name: str) -> list[tokenize.TokenInfo]:
    try:
        return list(tokenize.generate_tokens(io.StringIO(text).readline))
    except tokenize.TokenError as error:
        raise InputError(f"{name}, line {error.args[1][0]}: {error.args[0]}") from None
    except SyntaxError as error:
        raise InputError(f"{name}, line {error.lineno}: {error.msg}") from None
