"""The program of paths: pairs whose receivers lie in one layer make a step, and steps are the members of one program.

After the receivers runs the engine of grids (`cone.py`), with what they hear put in where they read it. By which way heads
hear (queries, keys or values) is data, so that all three share a program.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.models.attention import take
from interp_jax.patching.exact.cone import Kind, propagate, read_out
from interp_jax.patching.exact.exchange import Place, at_layer
from interp_jax.patching.paths.receivers import heard_by_heads, heard_by_mlp, said_by_heads, said_by_mlp
from interp_jax.patching.paths.routes import WAYS, Route, Senders
from interp_jax.patching.paths.senders import Change, Paths, change_by


class PathStep(NamedTuple):
    """Pairs with one (first) layer of receivers: the senders, as indices of `carried` too, and the receivers' heads."""

    first_layer: Int[Array, ""]
    way: Int[Array, ""]
    index: Int[Array, " J"]
    sender: Senders
    to: Int[Array, " J"]


def run_path_step(route: Route, step: PathStep, paths: Paths) -> Float[Array, "J B"]:
    """The metric of every pair of a step."""
    run = partial(run_pair, route, step.first_layer, step.way, paths)
    return jax.vmap(run)(step.index, step.sender, step.to)


def run_pair(
    route: Route, first: Int[Array, ""], way: Int[Array, ""], paths: Paths, index: Any, sender: Senders, to: Any
) -> Float[Array, " B"]:
    """The metric of one pair, whose receiver lies in layer `first`, or whose receivers begin there."""
    cfg, shared = route.cfg, paths.shared
    change = change_by(cfg, paths, index, sender)
    start, kind = jnp.zeros(1, jnp.int32), Kind(cfg, shared.base.streams.shape[2], False, False)
    if route.receiver == "logits" or (route.receiver in ("stream", "mid") and route.onward == "direct"):
        final = shared.base.final[:, None] + change(first, shared.at[:, None])
    elif route.receiver == "stream":
        x = at_layer(shared.base.streams, first) + change(first, jnp.arange(kind.rows)[None])
        final = propagate(kind, shared, start, first, x, {})
    elif route.onward == "direct":
        final = shared.base.final[:, None] + spoken(route, first, way, paths, change, to)
    else:
        put = partial(hear, route, first, way, paths, change, to)
        names = WAYS if route.receiver == "heads" else (route.receiver,)
        patches = {site_of(name): partial(put, name) for name in names}
        final = propagate(kind, shared, start, first, at_layer(shared.base.streams, first), patches)
    return read_out(cfg, shared, final)[0]


def site_of(name: str) -> str:
    """Where receivers read what they hear."""
    return {"mlp": "blocks.mlp.in", "mid": "blocks.resid_mid"}.get(name, f"blocks.attn.{name}")


def hear(
    route: Route,
    first: Int[Array, ""],
    way: Int[Array, ""],
    paths: Paths,
    change: Change,
    to: Any,
    name: str,
    here: Place,
    place: Place,
    x: Array,
    layer: Any,
) -> Array:
    """What is read at a site, with what receivers hear in its place where they are."""

    def heard(x: Array) -> Array:
        if name == "mid":
            return x + change(layer, here.column)
        listens = at_layer(paths.listeners, layer)
        if name == "mlp":
            value = heard_by_mlp(route, layer, paths, change, here.column).astype(x.dtype)
            return jnp.where(listens[0], value, x) if route.receivers == "together" else value
        value = heard_by_heads(route, name, layer, paths, change, to, here.column).astype(x.dtype)
        mine = listens[: x.shape[2]] if route.receivers == "together" else jnp.arange(x.shape[2]) == to
        return jnp.where(mine[:, None], value, x)

    mine = way == WAYS.index(name) if name in WAYS else True
    there = (layer >= first) if route.receivers == "together" else (layer == first)
    return jax.lax.cond(there & mine, heard, lambda x: x, x)


def spoken(
    route: Route, first: Int[Array, ""], way: Int[Array, ""], paths: Paths, change: Change, to: Any
) -> Float[Array, "B 1 D"]:
    """By how much what receivers say to the logits directly changes at the measured column."""

    def at(layer: Any) -> Array:
        if route.receiver == "mlp":
            return said_by_mlp(route, layer, paths, change)
        ways = [partial(said_by_heads, route, name, layer, paths, change, to) for name in WAYS]
        return jax.lax.switch(way, ways)

    if route.receivers == "each":
        return at(first)
    nothing = jnp.zeros_like(take(at_layer(paths.shared.base.streams, 0), paths.shared.at[:, None]))
    return jax.lax.fori_loop(first, route.cfg.n_layers, lambda layer, total: total + at(layer), nothing)
