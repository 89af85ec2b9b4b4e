"""Cells laid out so that the accelerator computes little that no cell needs.

A cell that changes nothing before column s needs rows s … P-1 alone. Two such cells share a lane, a sequence of R rows: with
starts s and P-1-s they fill P+1 rows exactly. Lanes with the same first layer make a step; steps are the members of one
compiled program, with the first layer as data.

    R = most rows of a cell                 one cell to a lane
    R = most + fewest rows of a cell        two to a lane, the longest with the shortest

whichever takes fewer rows in all.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from interp_jax.errors import InputError

NOBODY = -1
STEP = 1 / 32  # what a step costs, in parts of the largest


class Layout(NamedTuple):
    """N steps of J lanes with places for S cells each.

    Attributes:
      first_layer: of each step.
      cell: the cell in each place; -1 for none.
      start: its first column.
      rows: R, of a lane.
      used: rows of the lanes that a cell fills, in all.
    """

    first_layer: Int[np.ndarray, " N"]
    cell: Int[np.ndarray, "N J S"]
    start: Int[np.ndarray, "N J S"]
    rows: int
    used: int


def lay_out(
    first_layer: Int[np.ndarray, " C"],
    start: Int[np.ndarray, " C"],
    n_positions: int,
    most_lanes: int,
    folded: bool = True,
) -> Layout:
    """Steps of at most `most_lanes` lanes for cells that begin at a layer and a column; two to a lane only if `folded`.

    Raises:
      InputError: there are no cells.
    """
    if not len(start):
        raise InputError("a grid without cells: there is nothing to patch")
    length = n_positions - start
    pairs = fold(first_layer, length)
    rows, lanes = pairs if folded and pairs[0] * len(pairs[1]) < length.max() * len(start) else alone(length)
    by_layer = {layer: [lane for lane in lanes if first_layer[lane[0]] == layer] for layer in np.unique(first_layer)}
    width = lanes_per_step([len(own) for own in by_layer.values()], most_lanes)
    size = max(map(len, lanes))
    steps = [(layer, own[i : i + width]) for layer, own in by_layer.items() for i in range(0, len(own), width)]
    cell = np.full((len(steps), width, size), NOBODY, np.int32)
    for i, (_, own) in enumerate(steps):
        for j, lane in enumerate(own):
            cell[i, j, : len(lane)] = lane
    starts = np.where(cell == NOBODY, n_positions, start[cell])
    layers = np.array([layer for layer, _ in steps], np.int32)
    return Layout(layers, cell, starts.astype(np.int32), int(rows), int(length.sum()))


def alone(length: Int[np.ndarray, " C"]) -> tuple[int, list[list[int]]]:
    """A lane for each cell."""
    return int(length.max()), [[i] for i in range(len(length))]


def fold(first_layer: Int[np.ndarray, " C"], length: Int[np.ndarray, " C"]) -> tuple[int, list[list[int]]]:
    """Lanes of two cells of a layer, the longest of those left with the shortest, where both fit."""
    rows, lanes = int(length.max() + length.min()), []
    for layer in np.unique(first_layer):
        own = np.flatnonzero(first_layer == layer)
        own = own[np.argsort(-length[own], kind="stable")]
        i, j = 0, len(own) - 1
        while i < j:
            if length[own[i]] + length[own[j]] <= rows:
                lanes.append([int(own[i]), int(own[j])])
                j -= 1
            else:
                lanes.append([int(own[i])])
            i += 1
        lanes += [[int(own[i])]] if i == j else []
    return rows, lanes


def shared_out(draft: Layout, most: int, n_devices: int) -> int:
    """Lanes in a step, at most `most`, so that there is a step for every device, if there are lanes enough."""
    return max(1, min(most, -(-int((draft.cell != NOBODY).any(2).sum()) // n_devices)))


def lanes_per_step(counts: list[int], most: int) -> int:
    """A number of lanes, at most `most`, that leaves few places empty and takes few steps; large, if equal.

    A step costs as much as a part of the largest beside its lanes: weights are read, and little is done at once.
    """
    most = min(most, max(counts))
    cost = lambda width: sum(-(-n // width) for n in counts) * (width + STEP * most)
    return min(range(most, 0, -1), key=cost)


def balance(layout: Layout, n_layers: int, n_devices: int) -> Int[np.ndarray, " M"]:
    """An order of the steps, -1 for none, in which each device's run of them has as many layers to do as the others'."""
    longest_first = np.argsort(layout.first_layer, kind="stable")
    rounds = -(-len(longest_first) // n_devices)
    dealt = np.full((rounds, n_devices), NOBODY)
    dealt.ravel()[: len(longest_first)] = longest_first
    dealt[1::2] = dealt[1::2, ::-1]
    return dealt.T.ravel()
