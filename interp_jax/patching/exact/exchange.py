"""Putting the source's activations into a lane, where its cells say so.

A lane's rows are columns of one or more cells; a cell's terms (see `nodes.Terms`) hold at some layers, columns and units. So
for every row there is a mask, and the activation of the source at the row's own column:

    patched = where(mask, source[column], x)          or the same of coordinates in a `View`

Scores and patterns have columns that are looked at as well: the lane's own rows, then the base run's before the cell's start.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax.models.attention import take
from interp_jax.patching.exact.nodes import ALL, Terms
from interp_jax.patching.exact.views import View

NEURONS = ("blocks.mlp.pre", "blocks.mlp.pre_linear", "blocks.mlp.post")


class Lane(NamedTuple):
    """Cells side by side: their first columns, and what they patch, site by site (arrays [S K …])."""

    start: Int[Array, " S"]
    terms: Mapping[str, Terms]


class Place(NamedTuple):
    """Rows of a lane: the column of each, its cell, and whether it is one at all."""

    column: Int[Array, "#B N"]
    cell: Int[Array, "#B N"]
    real: Bool[Array, "#B N"]


class Seen(NamedTuple):
    """The columns that a lane's rows look at: `column` of each, and which of them stand for one in the row's own cell."""

    column: Int[Array, " K"]
    own: Bool[Array, "#B N K"]


def place_rows(start: Int[Array, " S"], n_rows: int, n_columns: int) -> Place:
    """Where a lane's rows stand: each cell's columns from its start on, one cell after another."""
    row, offset = jnp.arange(n_rows), offsets(start, n_columns)
    cell = (row[:, None] >= offset).sum(1) - 1
    column = start[cell] + row - offset[cell]
    return Place(jnp.minimum(column, n_columns - 1)[None], cell[None], (column < n_columns)[None])


def offsets(start: Int[Array, " S"], n_columns: int) -> Int[Array, " S"]:
    """The row at which each cell of a lane begins."""
    length = n_columns - start
    return jnp.cumsum(length) - length


def seen_from(asking: Place, rows: Place, start: Int[Array, " S"], n_columns: int, prefixed: bool) -> Seen:
    """What the rows `asking` look at: the lane's `rows`, and with a prefix all columns of the base run."""
    own = (asking.cell[:, :, None] == rows.cell[:, None, :]) & rows.real[:, None, :]
    if not prefixed:
        return Seen(rows.column[0], own)
    columns = jnp.arange(n_columns)
    before = columns < start[asking.cell][..., None]
    return Seen(jnp.concatenate([rows.column[0], columns]), jnp.concatenate([own, before], axis=-1))


def exchange(
    lane: Lane, place: Place, source: Array, site: str, x: Array, layer: Any, view: View | None = None
) -> Array:
    """An activation [B N …] with the source's put in; `source` is [L B P …]."""
    terms, there = lane.terms[site], take(at_layer(source, layer), place.column)
    chosen, unit = choose(terms, place, layer)
    if x.ndim == 4:
        where = within(chosen, unit, x.shape[2])[..., None]
    elif view is not None:
        where = within(chosen, unit, view.size)
    elif site in NEURONS:
        where = within(chosen, unit, x.shape[2])
    else:
        where = chosen.any(-1)[..., None]
    return jnp.where(where, there, x) if view is None else view.exchange(x, there, where, layer)


def exchange_looks(
    lane: Lane, place: Place, seen: Seen, source: Float[Array, "L B H P Q"], site: str, x: Array, layer: Any
) -> Float[Array, "B H N K"]:
    """Scores or a pattern with the source's put in."""
    terms = lane.terms[site]
    by_row = take(jnp.swapaxes(at_layer(source, layer), 1, 2), place.column)
    there = jnp.swapaxes(by_row, 1, 2)[..., seen.column]
    chosen, unit = choose(terms, place, layer)
    named = (unit[..., None] == ALL) | (unit[..., None] == jnp.arange(x.shape[1]))
    looked_at = take(terms.source[None], place.cell)[..., None]
    columns = (looked_at == ALL) | (looked_at == seen.column)
    where = ((chosen[..., None] & named)[..., None] & columns[:, :, :, None]).any(2)  # B N H K
    return jnp.where(jnp.swapaxes(where & seen.own[:, :, None], 1, 2), there, x)


def choose(terms: Terms, place: Place, layer: Any) -> tuple[Bool[Array, "#B N K"], Int[Array, "#B N K"]]:
    """Which of its cell's terms hold at a row, and their units."""
    first, stop, unit = (take(t[None], place.cell) for t in (terms.first, terms.stop, terms.unit))
    position = take(jnp.moveaxis(terms.position, 2, 0), place.cell)
    here = (position == ALL) | (position == place.column[..., None])
    return (first <= layer) & (layer < stop) & here & place.real[..., None], unit


def within(chosen: Bool[Array, "#B N K"], unit: Int[Array, "#B N K"], size: int) -> Bool[Array, "#B N U"]:
    """Which units are patched at a row."""
    named = (unit[..., None] == ALL) | (unit[..., None] == jnp.arange(size))
    return (chosen[..., None] & named).any(2)


def at_layer(stacked: Array, layer: Any) -> Array:
    """One layer of it; the layer may be traced."""
    return jax.lax.dynamic_index_in_dim(stacked, layer, keepdims=False)
