"""Variables of tokens: what is asked of an activation, with the values that it can take.

A label is the index of a value; -1 says that the token has none, so that it counts for nothing. A variable without values is a
number, and its labels are numbers themselves; nan says that there is none. Windows of one document, or examples that a person
says belong together, have one group: a split that is worth its name never cuts one.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Real

from interp_jax.errors import InputError, nearest

NONE = -1


class Variable(NamedTuple):
    """A variable: its values in order of their labels, none of a number, and what it is, in words."""

    values: tuple[str, ...]
    about: str

    @property
    def is_number(self) -> bool:
        """Whether its labels are numbers, not classes."""
        return not self.values


class Annotated(NamedTuple):
    """Windows of tokens and what is to be read off them.

    Attributes:
      tokens: the windows.
      positions: 0, 1, … over real tokens and -1 on padding; one row where no row is padded.
      labels: by variable; -1 where a token has none, nan of a number.
      variables: of the same names.
      group: of each window.
      names: of the groups, for people.
      left_out: what could not be used, and why, one line each.
      source: what was read, for people.
      elsewhere: windows of another distribution, which no probe is fitted on; None where there are none.
    """

    tokens: Int[np.ndarray, "W P"]
    positions: Int[np.ndarray, "#W P"]
    labels: dict[str, Real[np.ndarray, "W P"]]
    variables: dict[str, Variable]
    group: Int[np.ndarray, " W"]
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    source: str
    elsewhere: Bool[np.ndarray, " W"] | None = None


def chosen(data: Annotated, names: tuple[str, ...]) -> Annotated:
    """With these variables alone, in this order; all of them for none.

    Raises:
      InputError: an unknown one.
    """
    for name in names:
        if name not in data.variables:
            raise InputError(f"{data.source} has no variable {name!r}: {nearest(name, data.variables)}")
    keep = lambda of: {name: of[name] for name in names or data.variables}
    return data._replace(labels=keep(data.labels), variables=keep(data.variables))


def known(labels: Real[np.ndarray, "*N"]) -> Bool[np.ndarray, "*N"]:
    """Where there is a label, of a class or a number."""
    return np.isfinite(labels) if labels.dtype.kind == "f" else labels > NONE


def counts(labels: Int[np.ndarray, "..."], variable: Variable) -> Int[np.ndarray, " C"]:
    """How many tokens have each value."""
    return np.bincount(labels[labels >= 0].ravel(), minlength=len(variable.values))


def binned(x: Int[np.ndarray, "..."], edges: tuple[int, ...]) -> Int[np.ndarray, "..."]:
    """How many of the edges each number has reached: the label of a class of numbers."""
    return np.searchsorted(edges, x, side="right").astype(np.int32)


def bin_names(edges: tuple[int, ...]) -> tuple[str, ...]:
    """The classes of numbers from 0 on: ("0–7", "8–19", "20+") of (8, 20)."""
    firsts, lasts = (0, *edges), (*(e - 1 for e in edges), None)
    name = lambda a, b: f"{a}+" if b is None else str(a) if a == b else f"{a}–{b}"
    return tuple(name(a, b) for a, b in zip(firsts, lasts, strict=True))


def repeated_groups(data: Annotated) -> Mapping[str, int]:
    """Windows whose tokens also stand in another group, which no split by group keeps apart: how many, by group."""
    seen: dict[bytes, set[int]] = {}
    for row, group in zip(data.tokens, data.group.tolist(), strict=True):
        seen.setdefault(row.tobytes(), set()).add(group)
    found: dict[str, int] = {}
    for row, group in zip(data.tokens, data.group.tolist(), strict=True):
        if len(seen[row.tobytes()]) > 1:
            found[data.names[group]] = found.get(data.names[group], 0) + 1
    return found
