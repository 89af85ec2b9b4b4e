"""What receivers hear: their queries, keys, values or MLP's input made of a changed stream; and what they say because of it.

    heard = project(norm(stream[l] + change[l]))        of the base run's stream, at the rows that are asked for
    said  = what receivers say of it - what they said in the base run
    stream[l+1] = stream[l] + attention's output of the base run + said, and what the layer's MLP makes of that

A receiver is one head, or all of a layer that hear by the same way (of keys and values: key/value heads).
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.attention import Rows, attention, combine, project, take
from interp_jax.models.config import LayerData, layer_data
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact.exchange import at_layer
from interp_jax.patching.exact.recordings import key_site
from interp_jax.patching.paths.routes import WAYS, Route
from interp_jax.patching.paths.senders import Change, Paths

SLICED = {"head": ("W_Q", "b_Q", "W_O", "b_distance"), "group": ("W_K", "b_K", "W_V", "b_V")}


class Part(NamedTuple):
    """Heads of a layer that hear together, with the key/value heads that they read: the first of each, and how many."""

    head: Any
    n_heads: int
    group: Any
    n_groups: int


def part_of(route: Route, way: str, to: Any) -> Part:
    """All heads of a layer; or of one receiver: a head, or all that share a key/value head."""
    cfg = route.cfg
    if route.receivers == "together":
        return Part(0, cfg.n_heads, 0, cfg.n_groups)
    shared_by = cfg.n_heads // cfg.n_groups
    return Part(to, 1, to // shared_by, 1) if way == "q" else Part(to * shared_by, shared_by, to, 1)


def heard_by_heads(
    route: Route, way: str, layer: Any, paths: Paths, change: Change, to: Any, columns: Int[Array, "#B N"]
) -> Float[Array, "B N _ E"]:
    """The queries, keys or values that a layer's receivers make of the changed stream: of one of them, or of all."""
    part, letter = part_of(route, way, to), way.upper()
    weights, data = layer_of(route.cfg, paths, layer)
    x_qk, x_v = inputs(route.cfg, paths, weights, data, layer, columns, change)
    mine = cut(weights["attn"], part)
    return project(x_v if way == "v" else x_qk, mine[f"W_{letter}"], mine.get(f"b_{letter}"))


def heard_by_mlp(
    route: Route, layer: Any, paths: Paths, change: Change, columns: Int[Array, "#B N"]
) -> Float[Array, "B N D"]:
    """What a layer's MLP reads of the changed stream."""
    base = paths.shared.base.streams if route.is_early else paths.own.mid
    x = take(at_layer(base, layer), columns) + change(layer, columns)
    return transformer.normalise(layer_of(route.cfg, paths, layer)[0], x, route.cfg, "ln2")


def said_by_heads(
    route: Route, way: str, layer: Any, paths: Paths, change: Change, to: Any, columns: Int[Array, "#B N"]
) -> Float[Array, "B N D"]:
    """By how much what a layer's receivers say changes at some columns, all else being the base run's."""
    cfg, base = route.cfg, paths.shared.base
    everywhere, part = jnp.arange(base.streams.shape[2])[None], part_of(route, way, to)
    value = heard_by_heads(route, way, layer, paths, change, to, columns if way == "q" else everywhere)
    k, v = (_slice(at_layer(kept, layer), part.group, part.n_groups, 2) for kept in (base.k, base.v))
    z = take(at_layer(paths.own.z, layer), columns)
    edits = {key_site(cfg): lambda x, _: k, "blocks.attn.v": lambda x, _: v}
    if way == "k":
        del edits[key_site(cfg)]
    edits |= {f"blocks.attn.{way}": lambda x, _: value}
    edits |= {
        "blocks.attn.z": lambda x, _: heard_in(route, way, layer, paths, x - _slice(z, part.head, part.n_heads, 2))
    }
    weights, data = layer_of(cfg, paths, layer)
    x_qk, x_v = inputs(cfg, paths, weights, data, layer, everywhere)
    heads = dataclasses.replace(cfg, n_heads=part.n_heads, n_kv_heads=part.n_groups)
    mine = {name: w for name, w in cut(weights["attn"], part).items() if name != "b_O"}
    rows = Rows(paths.shared.positions)
    changed, _ = taps.edit_with(attention, edits)(mine, x_qk, x_v, heads, data, rows, None, columns)
    if cfg.placement != "sandwich":
        return changed
    mixed = combine(weights["attn"], z) + changed
    return transformer.normalise(weights, mixed, cfg, "ln1_post") - take(at_layer(paths.own.attn, layer), columns)


def heard_in(route: Route, way: str, layer: Any, paths: Paths, z: Float[Array, "B N H E"]) -> Float[Array, "B N H E"]:
    """What changes in heads' mixes, of those that listen where several do together."""
    if route.receivers != "together":
        return z
    shared_by = 1 if way == "q" else route.cfg.n_heads // route.cfg.n_groups
    listens = at_layer(paths.listeners, layer)[: route.cfg.n_heads // shared_by]
    return jnp.where(jnp.repeat(listens, shared_by)[:, None], z, 0)


def said_by_mlp(
    route: Route, layer: Any, paths: Paths, change: Change, columns: Int[Array, "#B N"]
) -> Float[Array, "B N D"]:
    """By how much what a layer's MLP says changes at some columns."""
    cfg = route.cfg
    weights, _ = layer_of(cfg, paths, layer)
    out = transformer.mlp(weights["mlp"], heard_by_mlp(route, layer, paths, change, columns), cfg)
    out = transformer.normalise(weights, out, cfg, "ln2_post") if cfg.placement == "sandwich" else out
    said = out - take(at_layer(paths.own.mlp, layer), columns)
    return jnp.where(at_layer(paths.listeners, layer)[0], said, 0) if route.receivers == "together" else said


def stream_after(
    route: Route, way: Any, layer: Any, paths: Paths, change: Change, to: Any, columns: Int[Array, "#B N"]
) -> Float[Array, "B N D"]:
    """The stream after the layer of a receiver, at some columns: only what it says, and the MLP that hears that, is anew."""
    own, streams = paths.own, paths.shared.base.streams
    if route.receiver == "mlp":
        return take(at_layer(streams, layer + 1), columns) + said_by_mlp(route, layer, paths, change, columns)
    said = (
        change(layer, columns) if route.receiver == "mid" else said_by(route, way, layer, paths, change, to, columns)
    )
    weights, _ = layer_of(route.cfg, paths, layer)
    before = take(at_layer(streams, layer), columns)
    return transformer.add_mlp(weights, before, take(at_layer(own.attn, layer), columns) + said, route.cfg)


def said_by(
    route: Route, way: Any, layer: Any, paths: Paths, change: Change, to: Any, columns: Int[Array, "#B N"]
) -> Float[Array, "B N D"]:
    """By how much what a layer's receivers say changes; by which way heads hear is data."""
    if route.receiver == "mlp":
        return said_by_mlp(route, layer, paths, change, columns)
    ways = [partial(said_by_heads, route, name, layer, paths, change, to, columns) for name in WAYS]
    return jax.lax.switch(way, ways)


def layer_of(cfg: TransformerConfig, paths: Paths, layer: Any) -> tuple[Params, LayerData]:
    """A layer's weights and data."""
    stacked = paths.shared.params["blocks"], layer_data(cfg, paths.shared.base.streams.dtype)
    return jax.tree.map(lambda w: at_layer(w, layer), stacked)


def inputs(
    cfg: TransformerConfig,
    paths: Paths,
    weights: Params,
    data: LayerData,
    layer: Any,
    columns: Int[Array, "#B N"],
    change: Change | None = None,
) -> tuple[Array, Array]:
    """What a layer's queries and keys read of some columns of its stream, changed or not, and what its values read."""
    shared = paths.shared
    x = take(at_layer(shared.base.streams, layer), columns)
    x = x if change is None else x + change(layer, columns)
    shift = transformer.position_shift(shared.params, x.shape[1], cfg, take(shared.positions, columns))
    return transformer.attention_inputs(weights, x, cfg, data, shift)


def cut(attn: Params, part: Part) -> Params:
    """A layer's attention weights as those of a part of its heads."""
    spans = dict.fromkeys(SLICED["head"], (part.head, part.n_heads))
    spans |= dict.fromkeys(SLICED["group"], (part.group, part.n_groups))
    return {name: _slice(w, *spans[name]) if name in spans else w for name, w in attn.items()}


def _slice(x: Array, first: Any, size: int, axis: int = 0) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, first, size, axis)
