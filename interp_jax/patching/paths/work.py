"""What paths cost, in the terms of `budget.py`: products of weights and of attention, for one example.

    Δ                  of a head, its mix through W_O: 2 E D of a row, or 2 H E D where a norm follows; of an MLP, nothing
    carried            layers computed anew up to the last receiver, at all P columns; with Δ, once for each sender
    heard              2 D E of a row and of each head that receives; MLPs' inputs are not multiplied
    said               their looks and W_O, or the MLP; where everything after is computed anew, the MLP that hears heads too
    onward "all"       the layers above, at all columns; of receivers together, from the first of them on
    logits             one row

`cone` is the sum of these for every pair of which one is after the other. `done` is what the programs run: empty places too,
Δ of MLPs as well, hidden keys, and, where it is carried, every layer from the sender's to the last. Rows are all P; or the
measured one, of what only it reads: all of "direct" paths but keys and values, what is said in the last layer, the logits.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact import budget
from interp_jax.patching.exact.packing import Layout
from interp_jax.patching.paths.routes import MLP, Ends, Route, Senders, units


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
    parts = [carried(route, senders, ends, columns)]
    if layout is not None:
        listening = listeners[:, : units(route.cfg, receiver)].mean(1)
        parts += [heard(route, receiver, ends, layout, columns, listening)]
        parts += [onward(route, ends, layout, columns, read)]
    return budget.Work(*(float(sum(part)) for part in zip(*parts, strict=True)))


def carried(route: Route, senders: Senders, ends: Ends, columns: int) -> budget.Work:
    """Of what senders change in the streams."""
    cfg, before_last = route.cfg, route.cfg.n_layers - 1 + (route.receiver == "logits")
    attention, mlp, looks = layer_prices(cfg)
    is_head, delta, sent = senders.head != MLP, columns * delta_price(cfg), np.unique(ends.sender)
    if route.between == "nothing":
        return budget.Work(delta * len(is_head), delta * is_head[sent].sum())
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
    return budget.Work((delta + columns * done).sum(), (is_head * delta + columns * cone)[sent].sum())


def heard(
    route: Route,
    receiver: str,
    ends: Ends,
    layout: Layout,
    columns: int,
    listening: Float[np.ndarray, " L"],
) -> budget.Work:
    """Of what receivers make of it; `listening` is the share of a layer that hears, where several do together."""

    def in_layers(values: Float[np.ndarray, " Z"], first: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        return values[first] if route.receivers == "each" else values[:-1][::-1].cumsum()[::-1][first]

    share = np.append(listening, 1.0) if route.receivers == "together" else 1.0
    done, cone = (prices(route, receiver, columns, hidden) for hidden in (True, False))
    n_places = layout.cell.shape[1]
    return budget.Work(n_places * in_layers(done, layout.first_layer).sum(), in_layers(cone * share, ends.layer).sum())


def onward(route: Route, ends: Ends, layout: Layout, columns: int, read: int) -> budget.Work:
    """Of what that changes, and of the logits."""
    if route.receiver != "logits" and route.onward == "all":
        above = int(route.receivers == "each" and route.receiver != "stream")  # the receivers' layer is not run whole
        layout, firsts = layout._replace(first_layer=layout.first_layer + above), ends.layer + above
        return budget.work(route.cfg, layout, np.zeros_like(firsts), firsts, columns, read)
    logits = 2.0 * route.cfg.d_model * read
    return budget.Work(layout.cell.size * logits, len(ends.layer) * logits)


def prices(route: Route, receiver: str, columns: int, hidden: bool) -> Float[np.ndarray, " Z"]:
    """Of hearing in a layer, and of saying so; entry L is of the logits. `hidden`: with keys that a row does not see."""
    cfg, rows = route.cfg, np.full(route.cfg.n_layers + 1, float(columns))
    rows[0 if route.onward == "direct" else cfg.n_layers - 1 :] = 1  # that ask, and that go on
    seen = np.where(hidden | (rows == 1), columns, (columns + 1) / 2)
    heads = units(cfg, receiver) if route.receivers == "together" else 1
    reading = rows if receiver == "q" else float(columns)
    found = 2.0 * cfg.d_model * cfg.d_head * heads * reading if route.receiver == "heads" else 0 * rows
    if route.onward == "direct" or route.receivers == "each":
        found = found + rows * saying(route, receiver, seen)
    return np.where(np.arange(len(rows)) < cfg.n_layers, found, 0.0)


def delta_price(cfg: TransformerConfig) -> float:
    """Of a row of Δ."""
    return 2.0 * cfg.d_head * cfg.d_model * (cfg.n_heads if cfg.placement == "sandwich" else 1)


def saying(route: Route, receiver: str, seen: Float[np.ndarray, " Z"]) -> Float[np.ndarray, " Z"] | float:
    """Of what a layer's receivers say at a row; those that do not receive queries make their own."""
    cfg, mlp = route.cfg, layer_prices(route.cfg)[1]
    if route.receiver in ("stream", "logits"):
        return 0.0
    if route.receiver != "heads":
        return mlp if route.receiver == "mlp" or route.onward == "all" else 0.0
    heads = cfg.n_heads if route.receivers == "together" else cfg.n_heads // units(cfg, receiver)
    through_w_o = heads + (cfg.n_heads if cfg.placement == "sandwich" else 0)
    queries = 0 if receiver == "q" else heads
    said = cfg.d_head * (4.0 * seen * heads + 2.0 * cfg.d_model * (through_w_o + queries))
    return said + (mlp if route.onward == "all" else 0.0)


def layer_prices(cfg: TransformerConfig) -> tuple[float, float, float]:
    """Of a layer's row: attention's products, the MLP's, and those of a look at one key."""
    keys, everything = budget.row_work(cfg)
    attention = keys["keys"] + 4.0 * cfg.d_model * cfg.n_heads * cfg.d_head
    return attention, everything - attention, 4.0 * cfg.n_heads * cfg.d_head
