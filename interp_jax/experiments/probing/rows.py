"""The tokens that are read, drawn of all windows, with the labels of each variable, their groups and classes of positions."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from interp_jax.activations.order import permutation
from interp_jax.data.probing.variables import NONE, Annotated, Variable
from interp_jax.errors import InputError
from interp_jax.experiments.probing.config import Reading


class Rows(NamedTuple):
    """B tokens.

    Attributes:
      index: which token of all windows, window by window.
      token: its id.
      group, bin: of each; bins are classes of positions.
      labels: by variable; -1 where there is none.
      variables: with the values that enough tokens have.
      bins: what positions a bin has.
      left_out: what could not be used, one line each.
    """

    index: Int[np.ndarray, " B"]
    token: Int[np.ndarray, " B"]
    group: Int[np.ndarray, " B"]
    bin: Int[np.ndarray, " B"]
    labels: Int[np.ndarray, "V B"]
    variables: dict[str, Variable]
    bins: tuple[str, ...]
    left_out: tuple[str, ...]


def rows_of(data: Annotated, reading: Reading, seed: int) -> Rows:
    """The rows.

    Raises:
      InputError: fewer groups than folds, or no variable with two values that enough tokens have.
    """
    positions = np.broadcast_to(data.positions, data.tokens.shape).ravel()
    labels = np.stack([x.ravel() for x in data.labels.values()])
    usable = np.flatnonzero((positions >= 0) & (labels >= 0).any(0))
    drawn = np.sort(usable[permutation(seed, "probing.rows", 0, 0, len(usable))][: reading.rows or None])
    group = data.group[drawn // data.tokens.shape[1]]
    if (n := len(np.unique(group))) < reading.folds:
        raise InputError(
            f"{data.source}: the tokens that are read are of {n} groups, fewer than reading.folds = {reading.folds}: give more"
            " data or fewer folds"
        )
    kept, variables, left_out = well_filled(data, labels[:, drawn], group, reading.folds)
    place, bins = position_bins(positions[drawn], reading.bins)
    said = (*data.left_out, *left_out)
    return Rows(drawn, data.tokens.ravel()[drawn], group, place, kept, variables, bins, said)


def well_filled(
    data: Annotated, labels: Int[np.ndarray, "V B"], group: Int[np.ndarray, " B"], least: int
) -> tuple[Int[np.ndarray, "U B"], dict[str, Variable], list[str]]:
    """The variables with two values or more that as many tokens have, of two groups; what was left out."""
    kept, variables, left_out = [], {}, []
    for (name, variable), x in zip(data.variables.items(), labels, strict=True):
        groups = [len(np.unique(group[x == c])) for c in range(len(variable.values))]
        there = [c for c, n in enumerate(groups) if n > 1 and (x == c).sum() >= least]
        for c in sorted(set(range(len(groups))) - set(there)):
            left_out.append(
                f"{name}: {variable.values[c]!r} is the value of {(x == c).sum()} of the tokens that are read, of {groups[c]}"
                " groups: too few, so it is left out"
            )
        if len(there) < 2:
            left_out.append(f"{name}: fewer than two values are left, so the variable is left out")
            continue
        new = np.full(len(groups) + 1, NONE, np.int32)  # the last is for -1
        new[there] = np.arange(len(there))
        kept.append(new[x])
        variables[name] = Variable(tuple(variable.values[c] for c in there), variable.about)
    if not kept:
        raise InputError(f"{data.source}: no variable has two values that can be told apart: {'; '.join(left_out)}")
    return np.stack(kept), variables, left_out


def position_bins(positions: Int[np.ndarray, " B"], n: int) -> tuple[Int[np.ndarray, " B"], tuple[str, ...]]:
    """Classes of positions that hold about as many rows each, in order; their names."""
    edges = np.unique(np.quantile(positions, np.linspace(0, 1, n + 1)[1:-1], method="higher"))
    place = np.searchsorted(edges[edges > positions.min()], positions, side="right").astype(np.int32)
    ends = [(positions[place == k].min(), positions[place == k].max()) for k in range(place.max() + 1)]
    return place, tuple(f"{a}–{b}" if a != b else f"{a}" for a, b in ends)
