"""How paths are computed: their pairs laid out in steps that fit in memory, and what each step is handed."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact import budget, packing
from interp_jax.patching.exact.plan import MEMORY
from interp_jax.patching.metrics import Metric
from interp_jax.patching.paths.program import PathStep
from interp_jax.patching.paths.routes import (
    WAYS,
    Ends,
    Receivers,
    Route,
    Sender,
    Senders,
    ends_of,
    listeners_of,
    numbers_of,
    units,
)
from interp_jax.patching.paths.work import path_work
from interp_jax.patching.prompts import Prompts


class Batch(NamedTuple):
    """Senders whose changes of the streams are held at once, their pairs, and the pairs' layout.

    Attributes:
      first: the first of them among all senders.
      senders: at most `PathPlan.at_once`.
      ends: their pairs.
      layout: of these; None where there are none.
    """

    first: int
    senders: Senders
    ends: Ends
    layout: packing.Layout | None


class PathPlan(NamedTuple):
    """How paths are computed: `n_receivers` of each sender, `at_once` senders and `examples` at a time."""

    route: Route
    listeners: Bool[np.ndarray, "L H"]
    way: int
    batches: tuple[Batch, ...]
    n_receivers: int
    at_once: int
    examples: int
    work: budget.Work
    devices: tuple[jax.Device, ...]


def plan_paths(
    params: Params,
    route: Route,
    receiver: str,
    senders: Sequence[Sender],
    prompts: Prompts,
    metric: Metric,
    memory: float = MEMORY,
    devices: Sequence[jax.Device] | None = None,
    receivers: Receivers = "each",
) -> PathPlan:
    """The layout of all pairs in steps that fit in memory; arguments are those of `patch_paths`.

    Raises:
      InputError: not even one pair fits, or receivers that the model lacks.
    """
    listeners = listeners_of(route.cfg, receiver, receivers)
    cfg, columns = route.cfg, prompts.clean.shape[1]
    read = cfg.d_vocab if metric.tokens is None else metric.tokens.shape[1]
    item = params["embed"]["W_E"].dtype.itemsize
    places = 1 if route.between == "nothing" else cfg.n_layers + 1
    streams = float(item * places * columns * cfg.d_model)  # of one sender and example
    kept = budget.recorded_bytes(cfg, columns, (), item) + 2 * said_bytes(cfg, columns, item) + streams
    cut = budget.split(budget.lane_bytes(cfg, columns, 0, 1, read, item), kept, len(prompts.at), memory)
    chosen, who = tuple(jax.devices() if devices is None else devices), numbers_of(senders)
    at_once = min(len(senders), max(1, int(memory / (streams * cut.examples))))
    batches, costs = [], []
    for first in range(0, len(senders), at_once):
        some = Senders(*(x[first : first + at_once] for x in who))
        ends = ends_of(route, receiver, some, listeners)
        batches.append(Batch(first, some, ends, lay_out(ends, columns, cut.lanes, len(chosen))))
        costs.append(path_work(route, receiver, some, ends, batches[-1].layout, columns, read, listeners))
    alone = route.receivers == "together" or receiver == "logits"
    n_receivers = 1 if alone else cfg.n_layers * units(cfg, receiver)
    way = WAYS.index(receiver) if receiver in WAYS else 0
    work = budget.Work(*map(sum, zip(*costs, strict=True)))
    return PathPlan(route, listeners, way, tuple(batches), n_receivers, at_once, cut.examples, work, chosen)


def said_bytes(cfg: TransformerConfig, columns: int, itemsize: int) -> float:
    """Bytes of what a run's heads and MLPs said, and of the streams that its MLPs read, of one example."""
    wide = 1 + bool(cfg.d_mlp) + bool(cfg.d_mlp and not cfg.parallel)
    return itemsize * float(cfg.n_layers * columns * (cfg.n_heads * cfg.d_head + wide * cfg.d_model))


def lay_out(ends: Ends, columns: int, lanes: int, n_devices: int) -> packing.Layout | None:
    """Pairs in steps of at most so many, spread over the devices; every pair runs on all columns."""
    if not len(ends.layer):
        return None
    starts = np.zeros_like(ends.layer)
    draft = packing.lay_out(ends.layer, starts, columns, len(starts), folded=False)
    return packing.lay_out(ends.layer, starts, columns, packing.shared_out(draft, lanes, n_devices), folded=False)


def path_steps(plan: PathPlan, batch: Batch) -> tuple[PathStep, Int[np.ndarray, "M J"]]:
    """The steps of a batch as arrays, spread evenly over the devices, and the pair in each place, -1 for none."""
    layout, cfg = batch.layout, plan.route.cfg
    order = packing.balance(layout, cfg.n_layers, len(plan.devices))
    empty = order < 0
    place = np.where(empty[:, None], packing.NOBODY, layout.cell[order, :, 0])
    pair = np.maximum(place, 0)
    index = batch.ends.sender[pair].astype(np.int32)
    first = np.where(empty, cfg.n_layers, layout.first_layer[order]).astype(np.int32)
    to = (batch.ends.receiver[pair] % max(1, plan.n_receivers // cfg.n_layers)).astype(np.int32)
    return PathStep(first, np.full(len(order), plan.way, np.int32), index, to), place
