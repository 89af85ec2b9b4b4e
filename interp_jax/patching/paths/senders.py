"""What senders say in the other run, and by how much that changes the streams.

    Δ = sender(source) - sender(base), as it enters the stream
    change[l] = Δ                                              where nothing between is computed anew
    change[l] = stream[l] of the base run with Δ - stream[l]   where MLPs, or everything, are

It is made once for each sender, and all its receivers read it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.attention import combine, take
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact.cone import Shared, read_out
from interp_jax.patching.exact.exchange import at_layer
from interp_jax.patching.exact.recordings import Recording, record_base
from interp_jax.patching.metrics import Metric
from interp_jax.patching.paths.routes import MLP, Route, Sender, Senders
from interp_jax.patching.prompts import Input, Prompts, stream

HEAD_OUTPUT, MLP_OUTPUT = "blocks.attn.z", "blocks.mlp.out"


def sites_of(senders: Sequence[Sender]) -> tuple[str, ...]:
    """The sites at which senders speak."""
    return tuple(dict.fromkeys(MLP_OUTPUT if sender.head is None else HEAD_OUTPUT for sender in senders))


class Outputs(NamedTuple):
    """What the parts of a model said in a run, and the stream that its MLPs read."""

    z: Float[Array, "L B P H E"]
    attn: Float[Array, "L B P D"]
    mlp: Float[Array, "L B P D"] | None
    mid: Float[Array, "L B P D"] | None


class Paths(NamedTuple):
    """What all pairs read: the base run, what was said in it and in the source run, and by how much streams change.

    `carried` has what each sender changes in the stream before each layer (before its MLP, where MLPs receive) and after
    the last, or once for all (Z = 1) where that is what the sender itself said; None before it is made. `listeners` says
    which heads (key/value heads, MLPs) hear where several do together.
    """

    shared: Shared
    own: Outputs
    other: Outputs
    carried: Float[Array, "N Z B P D"] | None
    listeners: Bool[Array | np.ndarray, "L H"]


Change = Callable[
    [Any, Int[Array, "#B N"]], Float[Array, "B N D"]
]  # (layer, columns) -> what the sender changes there


@partial(jax.jit, static_argnums=2)
def record_run(
    params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts, metric: Metric
) -> tuple[Recording, Outputs, Float[Array, " B"]]:
    """A run: what a patched one starts from, what its parts said, and its metric."""
    base = record_base(params, given, cfg, prompts)
    shared = Shared(params, base, prompts.positions, prompts.at, {}, metric)
    return base, record_outputs(params, given, cfg, prompts), read_out(cfg, shared, base.final[:, None])[0]


def record_outputs(params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts) -> Outputs:
    """What senders say."""
    sites = [HEAD_OUTPUT, "blocks.attn.out", *([MLP_OUTPUT] if cfg.d_mlp else [])]
    sites += ["blocks.resid_mid"] if cfg.d_mlp and not cfg.parallel else []
    _, acts = taps.record(stream, sites)(params, given, cfg, prompts)
    return Outputs(acts[HEAD_OUTPUT], acts["blocks.attn.out"], acts.get(MLP_OUTPUT), acts.get("blocks.resid_mid"))


def said(cfg: TransformerConfig, paths: Paths, sender: Senders) -> Float[Array, "B P D"]:
    """By how much a sender's output differs between the runs, as it enters the stream."""
    layer, head = sender
    own, weights = paths.own, jax.tree.map(lambda w: at_layer(w, layer), paths.shared.params["blocks"])
    mine, theirs = at_layer(own.z, layer), at_layer(paths.other.z, layer)
    if cfg.placement == "sandwich":
        mixed = combine(weights["attn"], jnp.where((jnp.arange(cfg.n_heads) == head)[:, None], theirs, mine))
        by_head = transformer.normalise(weights, mixed, cfg, "ln1_post") - at_layer(own.attn, layer)
    else:
        only = jax.lax.dynamic_index_in_dim(theirs - mine, jnp.maximum(head, 0), 2, keepdims=False)
        by_head = jnp.einsum("bpe,ed->bpd", only, at_layer(weights["attn"]["W_O"], jnp.maximum(head, 0)))
    if own.mlp is None:
        return by_head
    return jnp.where(head == MLP, at_layer(paths.other.mlp, layer) - at_layer(own.mlp, layer), by_head)


def carry(route: Route, sender: Senders, paths: Paths) -> Float[Array, "Z B P D"]:
    """What one sender changes in the stream before every layer and after the last, as far as `route.between` lets it."""
    cfg, shared, own = route.cfg, paths.shared, paths.own
    delta = said(cfg, paths, sender)
    if route.between == "nothing":
        return delta[None]

    def attn(x: Array, layer: Any) -> Array:
        x = at_layer(own.attn, layer) if route.between == "mlps" else x
        return x + jnp.where((layer == sender.layer) & (sender.head != MLP), 1, 0).astype(x.dtype) * delta

    def mlp(x: Array, layer: Any) -> Array:
        return x + jnp.where((layer == sender.layer) & (sender.head == MLP), 1, 0).astype(x.dtype) * delta

    site = "blocks.resid_pre" if route.is_early else "blocks.resid_mid"
    edits = {"blocks.attn.out": attn} | ({MLP_OUTPUT: mlp} if cfg.d_mlp else {})
    model = taps.record(taps.edit_with(transformer.blocks, edits), [site])
    x = at_layer(shared.base.streams, sender.layer)
    (end, _), acts = model(shared.params, x, cfg, sender.layer, None, shared.positions)
    base = shared.base.streams[:-1] if route.is_early else own.mid
    ran = jnp.arange(cfg.n_layers)[:, None, None, None] >= sender.layer
    return jnp.concatenate([jnp.where(ran, acts[site] - base, 0), (end - shared.base.streams[-1])[None]])


def change_by(route: Route, paths: Paths, index: Int[Array, ""]) -> Change:
    """What the sender of that index changes."""
    mine = paths.carried[index]
    return lambda layer, columns: take(at_layer(mine, 0 if route.between == "nothing" else layer), columns)
