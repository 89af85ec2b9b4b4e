"""How many activations a second dictionaries train on, one and populations of them, and what share of the matrix rate that is.

    ./launch/peers dictionaries --rates [--tiny] [--kinds topk …] [--populations 1 8 32] [--precision default]

An update is everything that belongs to it: loss, gradients, clipping, Adam, unit rows, counters of dead features. Members of a
population read one stream, which lies on the device. Their rate is that of the stream times the members. As many members are
computed at once as fit; a shape of which not even one does is said so.

The share is the arithmetic of the large products over the time, over the rate of a plain matrix product of the same type and
precision in the same run. Counted are the products of the benchmark's floor: the encoder's alone where k features are chosen
and only their rows are touched after it, else encoding, decoding and both gradients, and seven of Gated.
"""

import json
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from interp_jax import parts
from interp_jax.dictionaries.chosen import is_sparse
from interp_jax.dictionaries.config import BY_K, Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.population import place, population
from interp_jax.train.run import Span
from third_party.peers._rate import product_rate

STRETCH = 4  # batches that lie on the device and are read in turn
ROUNDS = 3


class Sizes(NamedTuple):
    """What is run: widths and features, activations of a batch, k, members, updates of a call, and the plain product's size."""

    shapes: Sequence[tuple[int, int]]
    batch: int
    k: int
    populations: Sequence[int]
    updates: int
    product: int


FULL = Sizes([(768, 16_384), (768, 65_536), (2_304, 16_384), (2_304, 65_536)], 4_096, 32, (1, 8, 32), 20, 8_192)
TINY = Sizes([(16, 64), (16, 128)], 32, 4, (1, 2, 4), 3, 128)


@part
class Settings:
    """What a member is given."""

    seed: int = hyper(0)
    dictionary: Dictionary = Dictionary()
    optimizer: Optimizer = Optimizer(learning_rate=3e-4, clip_norm=1.0)


def products(cfg: Dictionary) -> int:
    """The large products of an update that cannot be left out."""
    if cfg.kind in BY_K and is_sparse(cfg):
        return 1
    return 7 if cfg.kind == "gated" else 4


def seconds_of(cfg: Dictionary, members: int, at_once: int, batch: int, updates: int) -> list[float]:
    """Of an update of all members, in each round.

    Raises:
      JaxRuntimeError: they do not fit.
    """
    run = dictionary_run(
        lambda hypers, shared, seed, step: Batch(
            *2 * (jax.lax.dynamic_index_in_dim(shared, step % STRETCH, 0, False),)
        ),
        lambda hypers: (hypers.dictionary, hypers.optimizer, 1_000_000),
    )
    devices = jax.devices()[:1]
    hypers = place(parts.stack([Settings(seed=seed, dictionary=cfg) for seed in range(members)]), devices)
    x = jax.random.normal(jax.random.key(0), (STRETCH, batch, cfg.d_in))
    states = population(lambda hypers, _: run.init(hypers.seed, hypers), at_once, devices)(hypers, ())
    step = lambda member, shared: (run.advance(*member, shared[0], shared[1])[0], member[1])
    advance, found, done = population(step, at_once, devices, donate=True), [], 0
    pair = (states, hypers)
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        pair = jax.block_until_ready(advance(pair, (Span(np.int32(done), np.int32(done + updates)), x)))
        found.append((time.perf_counter() - started) / updates)
        done += updates
    return found[1:]  # the first compiles


def measure(kind: str, shape: tuple[int, int], members: int, sizes: Sizes, rate: float) -> dict[str, Any]:
    """One row; without seconds where not even one member at a time fits."""
    d_in, n_features = shape
    cfg = Dictionary(kind=kind, d_in=d_in, n_features=n_features, most=sizes.k, k=sizes.k)
    row = {"kind": kind, "d_in": d_in, "n_features": n_features, "batch": sizes.batch, "members": members}
    at_once = members
    while at_once:
        try:
            taken = statistics.median(seconds_of(cfg, members, at_once, sizes.batch, sizes.updates))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            at_once //= 2
            continue
        arithmetic = members * products(cfg) * 2.0 * sizes.batch * d_in * n_features
        figures = {"at_once": at_once, "seconds": taken, "activations": members * sizes.batch / taken}
        return row | figures | {"products": products(cfg), "share": arithmetic / taken / rate}
    return row


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """The table."""
    table = Table("kind", "d", "F", "members", "at once", "an update", "activations/s", "of the matrix rate")
    for row in rows:
        told = [row["kind"], f"{row['d_in']:,}", f"{row['n_features']:,}", f"{row['members']}"]
        if "seconds" in row:
            took, rate = f"{1e3 * row['seconds']:.2f} ms", f"{row['activations']:,.0f}"
            told += [f"{row['at_once']}", took, rate, f"{row['share']:.1%}"]
        table.add_row(*told, *([] if "seconds" in row else ["does not fit"]))
    console.print(table)


def rates(kinds: Sequence[str], populations: Sequence[int], tiny: bool, precision: str) -> list[dict[str, Any]]:
    """Measure, print, and end with a line of JSON."""
    jax.config.update("jax_default_matmul_precision", None if precision == "default" else precision)
    sizes, console, rows = TINY if tiny else FULL, Console(width=140), []
    rate = product_rate(jnp.float32, sizes.product)
    device = jax.devices()[0].device_kind
    console.print(f"{device}: matrix products at {rate / 1e12:.3g} TFLOP/s, precision {precision}", highlight=False)
    for kind in kinds:
        for shape in sizes.shapes:
            for members in populations or sizes.populations:
                rows.append(measure(kind, shape, members, sizes, rate))
                told = f"{rows[-1]['activations']:,.0f} activations/s" if "seconds" in rows[-1] else "does not fit"
                console.print(f"{kind}, d = {shape[0]}, F = {shape[1]:,}, {members} members: {told}", highlight=False)
    show(rows, console)
    about = {"benchmark": "dictionaries --rates", "device": device, "precision": precision, "tflops": rate / 1e12}
    print(json.dumps({**about, "rows": rows}))
    return rows
