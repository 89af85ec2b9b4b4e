"""What paths cost, in the terms of `budget.py`: products of weights and of attention, for one example.

    Δ                  of a head, its mix through W_O: 2 E D of a row, or 2 H E D where a norm follows; of an MLP, nothing
    carried            layers computed anew up to the last receiver, at all P columns; once for each sender
    heard              2 D E of a row and of each head that receives; MLPs' inputs are not multiplied
    onward "all"       layers from the receiver's on at all columns, as of the grid's cell that patches what it reads
    onward "direct"    what the receivers say at the measured column: their looks and W_O, or the MLP; a stream is said as it is
    logits             one row

`cone` is the sum of these for every pair of which one is after the other. `done` is what the programs run: empty places too,
Δ for MLPs as well and anew for each layer that hears it, and, where it is carried, every layer from the sender's to the last.
Rows are all P; or the measured one, of what only it reads: all of "direct" paths but keys and values, the last layer's queries
and MLP, the logits.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact import budget
from interp_jax.patching.exact.packing import Layout
from interp_jax.patching.paths.routes import MLP, Ends, Route, Senders, units

OF_ALL_ROWS = ("k", "v", "resid_pre", "resid_post")  # what other rows read than the measured one


class Prices(NamedTuple):
    """Operations of hearing a sender in a layer; entry L is of the logits.

    Attributes:
      delta: Δ of a row; 0 where it is carried.
      rows: at which it is heard.
      listen: to hear it and, where receivers speak directly, to say so; without Δ.
    """

    delta: float
    rows: Float[np.ndarray, " Z"]
    listen: Float[np.ndarray, " Z"]


def path_work(
    route: Route,
    receiver: str,
    senders: Senders,
    ends: Ends,
    layout: Layout | None,
    columns: int,
    read: int,
    listeners: Bool[np.ndarray, "L H"],
) -> budget.Work:
    """Arithmetic of some senders' pairs, of prompts of P columns and a metric that reads so many logits.

    `layout` is that of the pairs, None where there are none; `listeners` those of a layer that hear together.
    """
    parts = [] if route.between == "nothing" else [carried(route, senders, ends, columns)]
    if layout is not None:
        listening = listeners[:, : units(route.cfg, receiver)].mean(1)
        parts += [heard(route, receiver, senders, ends, layout, columns, listening)]
        parts += [onward(route, ends, layout, columns, read)]
    return budget.Work(*(float(sum(part)) for part in zip(*parts, strict=True)) if parts else (0.0, 0.0))


def carried(route: Route, senders: Senders, ends: Ends, columns: int) -> budget.Work:
    """Of what senders change in the streams."""
    cfg, before_last = route.cfg, route.cfg.n_layers - 1 + (route.receiver == "logits")
    attention, mlp, looks = layer_prices(cfg)
    is_head, delta = senders.head != MLP, columns * delta_price(cfg)
    layers = (
        np.full(len(senders.layer), before_last) - senders.layer - 1
    )  # between the sender's and the last receiver's
    own = np.where(is_head & (layers >= 0) & (not cfg.parallel), mlp, 0.0)
    if route.between == "mlps":
        done = (cfg.n_layers - senders.layer) * mlp
        cone = np.maximum(layers, 0) * mlp + own
    else:
        seen = looks * (columns + 1) / 2
        done = (cfg.n_layers - senders.layer) * (attention + mlp + looks * columns)
        cone = np.maximum(layers, 0) * (attention + mlp + seen) + own
        cone = cone + np.where(layers >= 0, 0.0 if route.is_early else attention + seen, 0.0)
    sent = np.unique(ends.sender)
    return budget.Work((delta + columns * done).sum(), (is_head * delta + columns * cone)[sent].sum())


def heard(
    route: Route,
    receiver: str,
    senders: Senders,
    ends: Ends,
    layout: Layout,
    columns: int,
    listening: Float[np.ndarray, " L"],
) -> budget.Work:
    """Of what receivers make of it; `listening` is the share of a layer that hears, where several do together."""
    price = prices(route, receiver, columns)

    def in_layers(values: Float[np.ndarray, " Z"], first: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        return values[first] if route.receivers == "each" else values[:-1][::-1].cumsum()[::-1][first]

    done = layout.cell.shape[1] * in_layers(price.delta * price.rows + price.listen, layout.first_layer).sum()
    delta = price.delta * (price.rows[ends.layer] * (senders.head != MLP)[ends.sender]).sum()
    share = np.append(listening, 1.0) if route.receivers == "together" else 1.0
    return budget.Work(done, delta + in_layers(price.listen * share, ends.layer).sum())


def onward(route: Route, ends: Ends, layout: Layout, columns: int, read: int) -> budget.Work:
    """Of what that changes, and of the logits."""
    if route.receiver != "logits" and route.onward == "all":
        return budget.work(route.cfg, layout, np.zeros_like(ends.layer), ends.layer, columns, read)
    logits = 2.0 * route.cfg.d_model * read
    return budget.Work(layout.cell.size * logits, len(ends.layer) * logits)


def prices(route: Route, receiver: str, columns: int) -> Prices:
    """Of hearing, layer by layer."""
    cfg, rows = route.cfg, np.full(route.cfg.n_layers + 1, float(columns))
    rows[cfg.n_layers] = columns if route.receiver == "stream" else 1
    if receiver not in OF_ALL_ROWS or (route.receiver == "stream" and route.onward == "direct"):
        rows[0 if route.onward == "direct" else cfg.n_layers - 1 :] = 1
    speech = speaking(route, receiver, columns) if route.onward == "direct" else 0.0
    heads = units(cfg, receiver) if route.receivers == "together" else 1
    heard = 2.0 * cfg.d_model * cfg.d_head * heads * rows if route.receiver == "heads" else 0 * rows
    listen = np.where(np.arange(len(rows)) < cfg.n_layers, heard + speech, 0.0)
    return Prices(delta_price(cfg) if route.between == "nothing" else 0.0, rows, listen)


def delta_price(cfg: TransformerConfig) -> float:
    """Of a row of Δ."""
    return 2.0 * cfg.d_head * cfg.d_model * (cfg.n_heads if cfg.placement == "sandwich" else 1)


def speaking(route: Route, receiver: str, columns: int) -> float:
    """Of what a layer's receivers say at the measured column; those that do not receive queries make their own."""
    cfg = route.cfg
    if route.receiver != "heads":
        return layer_prices(cfg)[1] if route.receiver == "mlp" else 0.0
    heads = cfg.n_heads if route.receivers == "together" else cfg.n_heads // units(cfg, receiver)
    through_w_o = heads + (cfg.n_heads if cfg.placement == "sandwich" else 0)
    queries = 0 if receiver == "q" else heads
    return cfg.d_head * (4.0 * columns * heads + 2.0 * cfg.d_model * (through_w_o + queries))


def layer_prices(cfg: TransformerConfig) -> tuple[float, float, float]:
    """Of a layer's row: attention's products, the MLP's, and those of a look at one key."""
    keys, everything = budget.row_work(cfg)
    attention = keys["keys"] + 4.0 * cfg.d_model * cfg.n_heads * cfg.d_head
    return attention, everything - attention, 4.0 * cfg.n_heads * cfg.d_head
