"""Path patching: what one part of a model does through what another part reads of it (Wang et al. 2022; Goldowsky-Dill et al.
2023, "Localizing model behavior with path patching").

A sender is a head or an MLP whose output is that of the source run. A receiver is the query, key or value input of a head, the
input of an MLP, or the logits. In between, as `between` says,

    "nothing"    the direct path alone: what the receiver reads changes by what the sender's own output changes
    "mlps"       MLPs in between are computed anew, attention stays as it was
    "all"        everything in between is computed anew

and all else that the receiver reads is the base run's. After the receiver, as `onward` says, everything is computed anew
("all"), or it too speaks to the logits directly ("direct"). The metric of every pair is that of such a run:

    Δ = sender(source) - sender(base), carried to layer l;   value = project(norm(stream[l] + Δ));   base run with that value

All pairs of a receiver's kind are one program; a receiver that is not after its sender has the base run's metric.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from interp_jax.errors import InputError, nearest
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact import budget, packing
from interp_jax.patching.exact.cone import Shared
from interp_jax.patching.exact.grids import Patched
from interp_jax.patching.exact.nodes import Axis, Grid
from interp_jax.patching.exact.path_program import MLP, Pairs, Paths, Route, Senders, carry, record_run, run_pairs
from interp_jax.patching.exact.plan import MEMORY, chunks, rows_of
from interp_jax.patching.exact.recordings import DENOISING, Prompts, roles
from interp_jax.patching.metrics import Metric, check_finite, check_tokens
from interp_jax.train.population import pad_members, population

RECEIVERS = ("q", "k", "v", "mlp", "logits")
BETWEEN = ("nothing", "mlps", "all")
ONWARD = ("all", "direct")


class Sender(NamedTuple):
    """A head of a layer, or its MLP where `head` is None."""

    layer: int
    head: int | None = None


def every_head(cfg: TransformerConfig) -> tuple[Sender, ...]:
    """All heads, layer by layer."""
    return tuple(Sender(layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads))


def patch_paths(
    params: Params,
    cfg: TransformerConfig,
    prompts: Prompts,
    senders: Sequence[Sender],
    receiver: str,
    metric: Metric,
    direction: str = DENOISING,
    between: str = "nothing",
    onward: str = "all",
    memory: float = MEMORY,
    devices: Sequence[jax.Device] | None = None,
) -> Patched:
    """The metric of every pair: axes sender, then layer (and head) of the receivers; of the logits, sender alone.

    Args:
      params: of the model.
      cfg: of the model.
      prompts: clean and corrupted ones.
      senders: heads and MLPs, such as `every_head(cfg)`.
      receiver: "q", "k", "v" of every head (of k and v: key/value head), "mlp" of every layer, or "logits".
      metric: one number per example.
      direction: "denoising": senders speak as in the clean run; "noising": as in the corrupted one.
      between: "nothing", "mlps" or "all" of what lies between is computed anew.
      onward: "all" of what lies after the receiver is computed anew, or it speaks to the logits "direct".
      memory: bytes for a step's activations.
      devices: those to spread the steps over.

    Raises:
      InputError: post-norms, where the stream is no sum; an unknown word, or a sender or receiver that the model lacks.
    """
    check_request(cfg, senders, receiver, between, onward)
    check_tokens(metric, cfg.d_vocab)
    chosen = tuple(jax.devices() if devices is None else devices)
    route = Route(cfg, receiver, between, onward)
    found = []
    who = Senders(*(np.array(x, np.int32) for x in zip(*map(_numbers, senders), strict=True)))
    cut = budget.split(lane_bytes(params, route, prompts, metric), len(prompts.at), memory)
    for examples in chunks(len(prompts.at), cut.examples):
        some = jax.tree.map(partial(rows_of, examples), (prompts, metric))
        found.append(_patch_some(params, route, *some, who, direction, memory, chosen))
    values, base, other = (np.concatenate(parts, -1)[..., : len(prompts.at)] for parts in zip(*found, strict=True))
    clean, corrupted = (other, base) if direction == DENOISING else (base, other)
    for each in (clean, corrupted, values):
        check_finite(each, metric.name)
    grid = grid_of(route, senders)
    wasted = budget.Work(np.nan, np.nan)
    return Patched(grid, values.reshape(*grid.shape, -1), clean, corrupted, direction, metric.name, wasted)


def _numbers(sender: Sender) -> tuple[int, int]:
    return sender.layer, MLP if sender.head is None else sender.head


def check_request(cfg: TransformerConfig, senders: Sequence[Sender], receiver: str, between: str, onward: str) -> None:
    """Raise `InputError` for what cannot be asked."""
    for name, value, known in (
        ("receiver", receiver, RECEIVERS),
        ("between", between, BETWEEN),
        ("onward", onward, ONWARD),
    ):
        if value not in known:
            raise InputError(f"{name} = {value!r}: {nearest(value, known)}")
    if cfg.placement == "post":
        raise InputError("model.placement = 'post': norms rescale the stream after each layer, so no path is direct")
    if not senders:
        raise InputError("no senders: there is no path")
    for sender in senders:
        head_ok = sender.head is None or 0 <= sender.head < cfg.n_heads
        if not 0 <= sender.layer < cfg.n_layers or not head_ok:
            raise InputError(f"{sender}: the model has {cfg.n_layers} layers of {cfg.n_heads} heads")
    if not cfg.d_mlp and (receiver == "mlp" or any(s.head is None for s in senders)):
        raise InputError("model.d_mlp = 0: a model without MLPs has none that sends or receives")


def grid_of(route: Route, senders: Sequence[Sender]) -> Grid:
    """The axes of the result."""
    names = tuple(f"{s.layer}.{s.head}" if s.head is not None else f"mlp {s.layer}" for s in senders)
    axes = [Axis("sender", names)]
    if route.receiver != "logits":
        axes.append(Axis("layer", tuple(map(str, range(route.cfg.n_layers)))))
    if route.receiver in ("q", "k", "v"):
        axes.append(Axis("head", tuple(map(str, range(receivers_in_layer(route))))))
    return Grid(f"paths to {route.receiver}", tuple(axes), {})


def receivers_in_layer(route: Route) -> int:
    """Heads, or one."""
    cfg = route.cfg
    return {"q": cfg.n_heads, "k": cfg.n_groups, "v": cfg.n_groups}.get(route.receiver, 1)


def lane_bytes(params: Params, route: Route, prompts: Prompts, metric: Metric) -> float:
    """Bytes of a pair, of one example."""
    columns, item = prompts.clean.shape[1], params["embed"]["W_E"].dtype.itemsize
    read = route.cfg.d_vocab if metric.tokens is None else metric.tokens.shape[1]
    return budget.lane_bytes(route.cfg, columns, 0, 1, read, item)


def _patch_some(
    params: Params,
    route: Route,
    prompts: Prompts,
    metric: Metric,
    senders: Senders,
    direction: str,
    memory: float,
    devices: tuple[jax.Device, ...],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Metrics of the pairs [C B], of the base run and of the source run."""
    given, others = roles(prompts, direction)
    base, own, base_metric = record_run(params, given, route.cfg, prompts, metric)
    _, other, other_metric = record_run(params, others, route.cfg, prompts, metric)
    paths = Paths(Shared(params, base, prompts.positions, prompts.at, {}, metric), own, other, None)
    lanes = budget.split(lane_bytes(params, route, prompts, metric) * len(prompts.at), 1, memory).lanes
    n_receivers = 1 if route.receiver == "logits" else route.cfg.n_layers * receivers_in_layer(route)
    found = np.tile(np.asarray(base_metric), (len(senders.layer), n_receivers, 1))
    at_once = len(senders.layer) if route.between == "nothing" else max(1, int(memory / base.streams.nbytes))
    for some in chunks(len(senders.layer), min(at_once, len(senders.layer))):
        chosen = Senders(*(x[some] for x in senders))
        if route.between != "nothing":
            paths = paths._replace(carried=run_carry(route, chosen, paths, devices))
        sender, receiver, values = run_chunk(route, chosen, paths, lanes, devices)
        found[some[sender], receiver] = values
    return found.reshape(-1, found.shape[-1]), np.asarray(base_metric), np.asarray(other_metric)


def run_carry(route: Route, senders: Senders, paths: Paths, devices: tuple[jax.Device, ...]) -> Array:
    """What each sender changes in every stream, [N L+1 B P D]."""
    carried = carry_program(route, devices)(pad_members(senders, len(devices)), paths._replace(carried=None))
    return carried[: len(senders.layer)]


def run_chunk(
    route: Route, senders: Senders, paths: Paths, lanes: int, devices: tuple[jax.Device, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sender and receiver of each pair of which one is after the other, and its metrics [N B]."""
    cfg, per_layer = route.cfg, receivers_in_layer(route)
    layers = np.repeat(np.arange(cfg.n_layers), per_layer)
    if route.receiver == "logits":
        layers = np.full(1, cfg.n_layers)
    after = layers[None] > senders.layer[:, None]
    if route.receiver == "mlp" and not cfg.parallel:  # a layer's MLP reads what its heads said
        after |= (layers[None] == senders.layer[:, None]) & (senders.head[:, None] != MLP)
    sender, receiver = np.nonzero(after)
    if not len(sender):
        return sender, receiver, np.zeros((0, len(paths.shared.at)))
    layout = packing.lay_out(layers[receiver], np.zeros(len(sender), int), 1, lanes, folded=False)
    order = packing.balance(layout, cfg.n_layers, len(devices))
    cell = np.where(order[:, None] < 0, packing.NOBODY, layout.cell[order, :, 0])
    pair = np.maximum(cell, 0)
    index = sender[pair].astype(np.int32)
    first = np.where(order < 0, cfg.n_layers, layout.first_layer[order]).astype(np.int32)
    to = (receiver[pair] % per_layer).astype(np.int32)
    members = Pairs(first, index, Senders(senders.layer[index], senders.head[index]), to)
    values = np.asarray(pair_program(route, devices)(members, paths))
    return sender[cell[cell >= 0]], receiver[cell[cell >= 0]], values[cell >= 0]


@lru_cache(maxsize=64)
def pair_program(route: Route, devices: tuple[jax.Device, ...]) -> Any:
    """The compiled program of all pairs of a kind."""
    return population(partial(run_pairs, route), 1, devices)


@lru_cache(maxsize=64)
def carry_program(route: Route, devices: tuple[jax.Device, ...]) -> Any:
    """The compiled program of what senders change in streams."""
    return population(partial(carry, route), 1, devices)
