"""The programs behind `paths.py`: what senders said, what it changes in what receivers read, and what that does.

All three are made of the functions of which a block is made; after the receiver runs the same engine as for grids (`cone.py`).
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
from interp_jax.patching.exact.cone import Kind, Shared, propagate, read_out
from interp_jax.patching.exact.exchange import Place, at_layer
from interp_jax.patching.exact.recordings import Input, Prompts, Recording, record_base, stream
from interp_jax.patching.metrics import Metric

MLP = -1  # in the place of a head


class Route(NamedTuple):
    """What is static about a set of paths; the words are those of `patch_paths`."""

    cfg: TransformerConfig
    receiver: str
    between: str
    onward: str


class Outputs(NamedTuple):
    """What the parts of a model said in a run, and the stream that its MLPs read."""

    z: Float[Array, "L B P H E"]
    attn: Float[Array, "L B P D"]
    mlp: Float[Array, "L B P D"] | None
    mid: Float[Array, "L B P D"] | None


class Paths(NamedTuple):
    """What all pairs read: the base run, what was said in it and in the source run, and by how much streams change.

    `carried` has what each sender changes in the stream before each layer (before its MLP, where MLPs receive) and after
    the last; None where it is what the sender itself said.
    """

    shared: Shared
    own: Outputs
    other: Outputs
    carried: Float[Array, "N Z B P D"] | None


class Senders(NamedTuple):
    """Their layers, and heads or `MLP`."""

    layer: Int[Array, " N"]
    head: Int[Array, " N"]


class Pairs(NamedTuple):
    """Pairs whose receivers lie in one layer: the sender, as an index of `carried` too, and the receiver's head."""

    first_layer: Int[Array, ""]
    index: Int[Array, " J"]
    sender: Senders
    to: Int[Array, " J"]


def record_outputs(params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts) -> Outputs:
    """What senders say."""
    sites = ["blocks.attn.z", "blocks.attn.out", *(["blocks.mlp.out"] if cfg.d_mlp else [])]
    sites += ["blocks.resid_mid"] if cfg.d_mlp and not cfg.parallel else []
    _, acts = taps.record(stream, sites)(params, given, cfg, prompts)
    return Outputs(
        acts["blocks.attn.z"], acts["blocks.attn.out"], acts.get("blocks.mlp.out"), acts.get("blocks.resid_mid")
    )


def said(cfg: TransformerConfig, paths: Paths, layer: Any, head: Any) -> Float[Array, "B P D"]:
    """By how much a sender's output differs between the runs, as it enters the stream."""
    own, other, attn = paths.own, paths.other, at_layer(paths.shared.params["blocks"]["attn"]["W_O"], layer)
    mine, theirs = at_layer(own.z, layer), at_layer(other.z, layer)
    which = (jnp.arange(cfg.n_heads) == head)[:, None]
    if cfg.placement == "sandwich":
        weights = jax.tree.map(lambda w: at_layer(w, layer), paths.shared.params["blocks"])
        mixed = combine(weights["attn"], jnp.where(which, theirs, mine))
        by_head = transformer.normalise(weights, mixed, cfg, "ln1_post") - at_layer(own.attn, layer)
    else:
        only = jax.lax.dynamic_index_in_dim(theirs - mine, jnp.maximum(head, 0), 2, keepdims=False)
        by_head = jnp.einsum("bpe,ed->bpd", only, at_layer(attn, jnp.maximum(head, 0)))
    if own.mlp is None:
        return by_head
    return jnp.where(head == MLP, at_layer(other.mlp, layer) - at_layer(own.mlp, layer), by_head)


def carry(route: Route, sender: Senders, paths: Paths) -> Float[Array, "Z B P D"]:
    """What one sender changes in the stream before every layer and after the last, as far as `route.between` lets it."""
    cfg, shared, own = route.cfg, paths.shared, paths.own
    delta = said(cfg, paths, sender.layer, sender.head)

    def attn(x: Array, layer: Any) -> Array:
        x = at_layer(own.attn, layer) if route.between == "mlps" else x
        return x + jnp.where((layer == sender.layer) & (sender.head != MLP), 1, 0).astype(x.dtype) * delta

    def mlp(x: Array, layer: Any) -> Array:
        return x + jnp.where((layer == sender.layer) & (sender.head == MLP), 1, 0).astype(x.dtype) * delta

    site = "blocks.resid_mid" if route.receiver == "mlp" and not cfg.parallel else "blocks.resid_pre"
    edits = {"blocks.attn.out": attn} | ({"blocks.mlp.out": mlp} if cfg.d_mlp else {})
    model = taps.record(taps.edit_with(transformer.blocks, edits), [site])
    x = at_layer(shared.base.streams, sender.layer)
    (end, _), acts = model(shared.params, x, cfg, sender.layer, None, shared.positions)
    base = paths.own.mid if site == "blocks.resid_mid" else shared.base.streams[:-1]
    ran = jnp.arange(cfg.n_layers)[:, None, None, None] >= sender.layer
    return jnp.concatenate([jnp.where(ran, acts[site] - base, 0), (end - shared.base.streams[-1])[None]])


def run_pairs(route: Route, pairs: Pairs, paths: Paths) -> Float[Array, "J B"]:
    """The metric of every pair."""
    return jax.vmap(lambda *pair: run_pair(route, pairs.first_layer, paths, *pair))(
        pairs.index, pairs.sender, pairs.to
    )


def run_pair(
    route: Route, layer: Int[Array, ""], paths: Paths, index: Any, sender: Senders, to: Any
) -> Float[Array, " B"]:
    """The metric of one pair, whose receiver lies in `layer`."""
    cfg, shared = route.cfg, paths.shared
    if paths.carried is None:
        delta = said(cfg, paths, sender.layer, sender.head)
    else:
        delta = at_layer(at_layer(paths.carried, index), layer)
    if route.receiver == "logits":
        final = shared.base.final + take(delta, shared.at[:, None])[:, 0]
        return read_out(cfg, shared, final[:, None])[0]
    weights, data = jax.tree.map(lambda w: at_layer(w, layer), (shared.params["blocks"], layer_data(cfg, delta.dtype)))
    if route.receiver == "mlp":
        base = at_layer(shared.base.streams if cfg.parallel else paths.own.mid, layer)
        site, value = "blocks.mlp.in", transformer.normalise(weights, base + delta, cfg, "ln2")
    else:
        x = at_layer(shared.base.streams, layer) + delta
        site, value = f"blocks.attn.{route.receiver}", head_input(route, weights, data, x, shared, to)
    if route.onward == "direct":
        final = shared.base.final[:, None] + spoken(route, weights, data, paths, layer, to, value)
        return read_out(cfg, shared, final)[0]

    def put(here: Place, place: Place, x: Array, at: Any) -> Array:
        new = take(value, here.column)
        new = new if x.ndim == 3 else jnp.where((jnp.arange(x.shape[2]) == to)[:, None], new[:, :, None], x)
        return jnp.where(at == layer, new, x)

    n_columns = shared.base.streams.shape[2]
    kind, start = Kind(cfg, n_columns, False, False), jnp.zeros(1, jnp.int32)
    final = propagate(kind, shared, start, layer, at_layer(shared.base.streams, layer), {site: put})
    return read_out(cfg, shared, final)[0]


def head_input(
    route: Route, weights: Params, data: LayerData, x: Float[Array, "B P D"], shared: Shared, head: Any
) -> Float[Array, "B P E"]:
    """The queries, keys or values that a head makes of a stream."""
    letter = route.receiver.upper()
    x_qk, x_v = inputs(route.cfg, weights, data, x, shared)
    one = {
        name: at_layer(w, head)[None] for name, w in weights["attn"].items() if name in (f"W_{letter}", f"b_{letter}")
    }
    return project(x_v if letter == "V" else x_qk, one[f"W_{letter}"], one.get(f"b_{letter}"))[:, :, 0]


def inputs(
    cfg: TransformerConfig, weights: Params, data: LayerData, x: Float[Array, "B P D"], shared: Shared
) -> tuple[Array, Array]:
    """What a layer's queries and keys read of a stream, and what its values read."""
    shift = transformer.position_shift(shared.params, x.shape[1], cfg, shared.positions)
    return transformer.attention_inputs(weights, x, cfg, data, shift)


def spoken(
    route: Route, weights: Params, data: LayerData, paths: Paths, layer: Any, to: Any, value: Array
) -> Float[Array, "B 1 D"]:
    """By how much the receiver's own output changes at the measured column."""
    cfg, shared, at = route.cfg, paths.shared, paths.shared.at[:, None]
    if route.receiver == "mlp":
        out = transformer.mlp(weights["mlp"], take(value, at), cfg)
        out = transformer.normalise(weights, out, cfg, "ln2_post") if cfg.placement == "sandwich" else out
        return out - take(at_layer(paths.own.mlp, layer), at)
    x_qk, x_v = inputs(cfg, weights, data, at_layer(shared.base.streams, layer), shared)
    heads, of_part = part_of(route, weights["attn"], to)
    value = (take(value, at) if route.receiver == "q" else value)[:, :, None]
    arguments = heads, x_qk, x_v, of_part, data, Rows(shared.positions), None, at
    changed, _ = taps.edit_with(attention, {f"blocks.attn.{route.receiver}": lambda x, _: value})(*arguments)
    change = changed - attention(*arguments)[0]
    if cfg.placement != "sandwich":
        return change
    said = combine(weights["attn"], take(at_layer(paths.own.z, layer), at))
    return transformer.normalise(weights, said + change, cfg, "ln1_post") - take(at_layer(paths.own.attn, layer), at)


def part_of(route: Route, attn: Params, to: Any) -> tuple[Params, TransformerConfig]:
    """The heads that hear a receiver, as attention of their own, without b_O: one, or all that share a key/value head."""
    cfg = route.cfg
    shared_by = cfg.n_heads // cfg.n_groups
    head, n, group = (to, 1, to // shared_by) if route.receiver == "q" else (to * shared_by, shared_by, to)
    slices = dict.fromkeys(("W_Q", "b_Q", "W_O", "b_distance"), (head, n))
    slices |= dict.fromkeys(("W_K", "b_K", "W_V", "b_V"), (group, 1))
    part = {
        name: jax.lax.dynamic_slice_in_dim(w, *slices[name]) if name in slices else w
        for name, w in attn.items()
        if name != "b_O"
    }
    return part, dataclasses.replace(cfg, n_heads=n, n_kv_heads=1)


@partial(jax.jit, static_argnums=2)
def record_run(
    params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts, metric: Metric
) -> tuple[Recording, Outputs, Float[Array, " B"]]:
    """A run: what a patched one starts from, what its parts said, and its metric."""
    base = record_base(params, given, cfg, prompts)
    shared = Shared(params, base, prompts.positions, prompts.at, {}, metric)
    return base, record_outputs(params, given, cfg, prompts), read_out(cfg, shared, base.final[:, None])[0]
