"""Patched runs, computed where they differ from the base run and nowhere else.

A patch at layer l and column s leaves all before both as it was. So a lane (see `packing.py`) starts from the base run's
stream at its first layer, carries the columns from its cells' starts on, looks back at the base run's keys and values, and
runs the layers from there:

    x = streams[l][columns];   x = blocks(x, first_layer=l, cache=Prefix(base k, v));   metric(unembed(x at its column))

with the patches as `taps.edit_with` around `blocks`. In the last layer only the measured rows go on. Where a cell patches what
one row's query makes in one layer (its query, pattern, mix of values, MLP), only that row changes there: the layer is run for
it alone, and the rest begins above. Patches of the stream between layers are of the site "stream": `streams[l]` is the stream
before layer l, `streams[L]` the final one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.models.attention import Prefix, Rows, take
from interp_jax.models.transformer import Params, TransformerConfig, blocks, unembed
from interp_jax.patching.exact.exchange import (
    Lane,
    Place,
    at_layer,
    exchange,
    exchange_looks,
    offsets,
    place_rows,
    seen_from,
)
from interp_jax.patching.exact.nodes import LOOKS
from interp_jax.patching.exact.recordings import Recording
from interp_jax.patching.exact.views import View
from interp_jax.patching.metrics import Metric

STREAM = "stream"
BEFORE_QUERIES = ("blocks.attn.k", "blocks.attn.v", "blocks.attn.k_norm", "blocks.attn.rot_k", "blocks.resid_pre")


class Kind(NamedTuple):
    """What is static about a grid: grids of a kind share a program.

    Attributes:
      cfg: of the model.
      rows: R, of a lane.
      prefixed: some cells begin after column 0.
      spread: some cells patch beyond their first layer.
      narrow: in its one layer, each cell changes the row at its start alone; then `prefixed` holds.
    """

    cfg: TransformerConfig
    rows: int
    prefixed: bool
    spread: bool
    narrow: bool = False


class Shared(NamedTuple):
    """What all lanes read; `source` has [L B P …] for each patched site, [L+1 B P D] for "stream", `views` its view if any."""

    params: Params
    base: Recording
    positions: Int[Array, "#B P"]
    at: Int[Array, " B"]
    source: Mapping[str, Array]
    metric: Metric
    views: Mapping[str, View] | None = None

    def view(self, site: str) -> View | None:
        """The view of a site."""
        return None if self.views is None else self.views.get(site)


class Step(NamedTuple):
    """Lanes that begin at one layer; their arrays have a leading J axis."""

    first_layer: Int[Array, ""]
    lanes: Lane


def run_step(kind: Kind, step: Step, shared: Shared) -> Float[Array, "J S B"]:
    """The metric of every cell of a step."""
    return jax.vmap(lambda lane: run_lane(kind, step.first_layer, lane, shared))(step.lanes)


def run_lane(kind: Kind, first: Int[Array, ""], lane: Lane, shared: Shared) -> Float[Array, "S B"]:
    """The metric of every cell of a lane; that of the base run where a cell begins after the measured column."""
    place = place_rows(lane.start, kind.rows, shared.base.streams.shape[2])
    patches = {site: partial(patch, kind, shared, lane, first, site) for site in lane.terms}
    if kind.narrow:
        x = after_layer(kind, shared, lane.start, first, place, patches)
        final = propagate(kind, shared, lane.start, first + 1, x, {})
    else:
        x = take(at_layer(shared.base.streams, first), place.column)
        if STREAM in lane.terms and not kind.spread:
            x = exchange(lane, place, shared.source[STREAM], STREAM, x, first, shared.view(STREAM))
        final = propagate(kind, shared, lane.start, first, x, patches)
    changed = lane.start[:, None] <= shared.at
    return jnp.where(
        changed, read_out(kind.cfg, shared, final), read_out(kind.cfg, shared, shared.base.final[:, None])
    )


Patch = Callable[[Place, Place, Array, Any], Array]  # (rows of the site, rows of the lane, activation, layer)


def after_layer(
    kind: Kind,
    shared: Shared,
    start: Int[Array, " S"],
    layer: Int[Array, ""],
    place: Place,
    patches: Mapping[str, Patch],
) -> Float[Array, "B R D"]:
    """The stream after a layer that is patched in the first row of each cell, and run for these rows alone."""
    n_columns = shared.base.streams.shape[2]
    here = Place(jnp.minimum(start, n_columns - 1)[None], jnp.arange(len(start))[None], (start < n_columns)[None])
    model = taps.edit_with(blocks, {site: partial(p, here, here) for site, p in patches.items()})
    x, prefix = take(at_layer(shared.base.streams, layer), here.column), Prefix(shared.base.k, shared.base.v)
    rows = rows_of_lane(kind, shared, start, here)
    x, _ = model(shared.params, x, kind.cfg, layer, prefix, rows, layer + 1)
    return take(at_layer(shared.base.streams, layer + 1), place.column).at[:, offsets(start, n_columns)].set(x)


def propagate(
    kind: Kind,
    shared: Shared,
    start: Int[Array, " S"],
    first: Int[Array, ""],
    x: Float[Array, "B R D"],
    patches: Mapping[str, Patch],
) -> Float[Array, "B S D"]:
    """The final stream at the measured column of each cell, from the stream before layer `first`."""
    cfg, last, n_columns = kind.cfg, kind.cfg.n_layers - 1, shared.base.streams.shape[2]
    place, cells = place_rows(start, kind.rows, n_columns), jnp.arange(len(start))
    read = jnp.clip(offsets(start, n_columns) + shared.at[:, None] - start, 0, kind.rows - 1)
    asked = Place(shared.at[:, None] + 0 * cells, cells[None], jnp.ones((1, len(cells)), bool))
    rows, prefix = rows_of_lane(kind, shared, start, place), None
    if kind.prefixed:
        prefix = Prefix(shared.base.k, shared.base.v)
    inside = {("blocks.resid_pre" if site == STREAM else site): p for site, p in patches.items()}
    if STREAM in patches and not kind.spread:
        del inside["blocks.resid_pre"]

    def model(late: bool) -> Callable[..., tuple[Array, Any]]:
        places = {site: asked if late and not looked_at(site, cfg) else place for site in inside}
        return taps.edit_with(blocks, {site: partial(p, places[site], place) for site, p in inside.items()})

    def end(x: Array) -> Array:
        return model(late=True)(shared.params, x, cfg, last, prefix, rows, last + 1, read)[0]

    x, _ = model(late=False)(shared.params, x, cfg, first, prefix, rows, last)
    x = jax.lax.cond(first <= last, end, lambda x: take(x, read), x)
    return patches[STREAM](asked, place, x, last + 1) if STREAM in patches and kind.spread else x


def patch(
    kind: Kind,
    shared: Shared,
    lane: Lane,
    first: Any,
    site: str,
    here: Place,
    place: Place,
    x: Array,
    layer: Any,
) -> Array:
    """A site's activation at the rows `here` of a lane, patched; where cells have one layer each, only there."""

    def patched(x: Array, layer: Any) -> Array:
        if site not in LOOKS:
            return exchange(lane, here, shared.source[site], site, x, layer, shared.view(site))
        seen = seen_from(here, place, lane.start, shared.base.streams.shape[2], kind.prefixed)
        return exchange_looks(lane, here, seen, shared.source[site], site, x, layer)

    return patched(x, layer) if kind.spread else jax.lax.cond(layer == first, patched, lambda x, _: x, x, layer)


def rows_of_lane(kind: Kind, shared: Shared, start: Int[Array, " S"], place: Place) -> Rows:
    """What a lane's rows see: those of their own cell, and the base run before its start."""
    positions = jnp.where(place.real, take(shared.positions, place.column), -1)
    seen = place.cell[:, :, None] == place.cell[:, None, :]
    if not kind.prefixed:
        return Rows(positions, False, seen if len(start) > 1 else None)
    before = jnp.arange(shared.base.streams.shape[2]) < start[place.cell][..., None]
    return Rows(positions, False, seen, shared.positions, before)


def looked_at(site: str, cfg: TransformerConfig) -> bool:
    """Whether a layer computes a site at rows that are not measured: they are still keys and values."""
    return site in BEFORE_QUERIES or (site.startswith("blocks.ln1.") and cfg.placement != "post")


def read_out(cfg: TransformerConfig, shared: Shared, final: Float[Array, "B S D"]) -> Float[Array, "S B"]:
    """The metric of rows of the final stream."""
    tokens = shared.metric.tokens
    if tokens is not None:
        tokens = jnp.broadcast_to(tokens[:, None], (*final.shape[:2], tokens.shape[1]))
    return jax.vmap(shared.metric, in_axes=1)(unembed(shared.params, final, cfg, tokens))
