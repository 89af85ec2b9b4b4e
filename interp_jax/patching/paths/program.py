"""The program of paths: pairs whose receivers lie in one layer make a step, and steps are the members of one program.

What a receiver makes of its layer is that of the base run but for what it says (`receivers.py`); above it runs the engine of
grids (`cone.py`). Receivers that hear together lie in several layers: there the engine runs from the first of them on, with
what they hear put in where they read it. By which way heads hear (queries, keys or values) is data, so that all three share a
program.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.models.attention import take
from interp_jax.patching.exact.cone import Kind, propagate, read_out
from interp_jax.patching.exact.exchange import Place, at_layer
from interp_jax.patching.paths.receivers import heard_by_heads, heard_by_mlp, said_by, stream_after
from interp_jax.patching.paths.routes import WAYS, Route
from interp_jax.patching.paths.senders import Change, Paths, change_by


class PathStep(NamedTuple):
    """Pairs with one (first) layer of receivers: the senders, as indices of `carried`, and the receivers' heads."""

    first_layer: Int[Array, ""]
    way: Int[Array, ""]
    index: Int[Array, " J"]
    to: Int[Array, " J"]


def run_path_step(route: Route, step: PathStep, paths: Paths) -> Float[Array, "J B"]:
    """The metric of every pair of a step."""
    return jax.vmap(partial(run_pair, route, step.first_layer, step.way, paths))(step.index, step.to)


def run_pair(
    route: Route, first: Int[Array, ""], way: Int[Array, ""], paths: Paths, index: Any, to: Any
) -> Float[Array, " B"]:
    """The metric of one pair, whose receiver lies in layer `first`, or whose receivers begin there."""
    cfg, shared = route.cfg, paths.shared
    change, measured = change_by(route, paths, index), shared.at[:, None]
    run = partial(propagate, Kind(cfg, shared.base.streams.shape[2], False, False), shared, jnp.zeros(1, jnp.int32))
    if route.receiver == "logits" or (route.receiver in ("stream", "mid") and route.onward == "direct"):
        final = shared.base.final[:, None] + change(first, measured)
    elif route.onward == "direct":
        final = shared.base.final[:, None] + spoken(route, first, way, paths, change, to)
    elif route.receiver == "stream":
        x = at_layer(shared.base.streams, first)
        final = run(first, x + change(first, jnp.arange(x.shape[1])[None]), {})
    elif route.receivers == "together":
        names = WAYS if route.receiver == "heads" else (route.receiver,)
        patches = {site_of(name): partial(hear, route, first, way, paths, change, name) for name in names}
        final = run(first, at_layer(shared.base.streams, first), patches)
    else:
        final = run(first + 1, after(route, first, way, paths, change, to), {})
    return read_out(cfg, shared, final)[0]


def after(
    route: Route, layer: Int[Array, ""], way: Int[Array, ""], paths: Paths, change: Change, to: Any
) -> Float[Array, "B P D"]:
    """The stream after the receiver's layer; where that is the last, every row is the measured one."""
    streams, measured = paths.shared.base.streams, paths.shared.at[:, None]
    at = partial(stream_after, route, way, layer, paths, change, to)
    everywhere = lambda: at(jnp.arange(streams.shape[2])[None])
    return jax.lax.cond(
        layer < route.cfg.n_layers - 1, everywhere, lambda: jnp.broadcast_to(at(measured), streams.shape[1:])
    )


def site_of(name: str) -> str:
    """Where receivers read what they hear."""
    return "blocks.mlp.in" if name == "mlp" else f"blocks.attn.{name}"


def hear(
    route: Route,
    first: Int[Array, ""],
    way: Int[Array, ""],
    paths: Paths,
    change: Change,
    name: str,
    here: Place,
    place: Place,
    x: Array,
    layer: Any,
) -> Array:
    """What is read at a site, with what receivers hear together in its place where they are."""

    def heard(x: Array) -> Array:
        listens = at_layer(paths.listeners, layer)
        if name == "mlp":
            value = heard_by_mlp(route, layer, paths, change, here.column).astype(x.dtype)
            return jnp.where(listens[0], value, x)
        value = heard_by_heads(route, name, layer, paths, change, None, here.column).astype(x.dtype)
        return jnp.where(listens[: x.shape[2], None], value, x)

    mine = way == WAYS.index(name) if name in WAYS else True
    return jax.lax.cond((layer >= first) & mine, heard, lambda x: x, x)


def spoken(
    route: Route, first: Int[Array, ""], way: Int[Array, ""], paths: Paths, change: Change, to: Any
) -> Float[Array, "B 1 D"]:
    """By how much what receivers say to the logits directly changes at the measured column."""
    measured = paths.shared.at[:, None]

    def at(layer: Any) -> Array:
        return said_by(route, way, layer, paths, change, to, measured)

    if route.receivers == "each":
        return at(first)
    nothing = jnp.zeros_like(take(at_layer(paths.shared.base.streams, 0), measured))
    return jax.lax.fori_loop(first, route.cfg.n_layers, lambda layer, total: total + at(layer), nothing)
