"""Activation and path patching over whole grids: against TransformerLens 3.x and 4.x, each in an environment of its own.

    ./launch/peers patching [--quick] [--alone] [--rounds N] [--grids NAME …] [--batches N N]

GPT-2 small's shape with random weights, 16 positions, batch 1 and 8, denoising: the run on corrupted tokens with a piece of the
run on clean ones, measured by the difference of two logits at the last position. Grids:

    residual pre            layer × position
    head outputs            layer × head, all positions at once
    head q | k | v          layer × position × head
    paths to q | k | v      head × head: what the first writes is clean in what the second reads, everything after that follows
    direct paths to q | …   the same, and the second reaches the logits directly: all else is held at the corrupted run

TransformerLens runs its own functions where it has them, and hooks as its users write them where it has none: see
`_patching_torch.py`. The first two grids it runs in full; of the others, which would take it hours, it runs a sample of cells,
and its seconds per cell are multiplied. Paths with everything after them are measured at batch 1 only.

First the numbers: all sides agree on a sample of each grid. Then they take turns, and the library's seconds are the median of
its turns before, between and after (one turn only, where that takes long). Compilation is printed apart, without the
persistent cache of compiled programs. The floor is the time of the arithmetic in the cells' cones (`_patching_cones.py`) at the
rate that a large product reaches here. `--alone` leaves the others out; on a GPU the table is made once more there, with those
of the others that can use it.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.metrics import Metric, logit_difference
from third_party import huggingface
from third_party.peers._patching_cones import cone, operations
from third_party.peers._patching_ours import Found, ours
from third_party.peers._patching_processes import Unavailable, Worker, lens3_python, lens4_python, make_weights
from third_party.peers._patching_table import show
from third_party.peers._rate import product_rate

SMALL = {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50_257, "n_positions": 1_024}
QUICK = {"n_layer": 4, "n_embd": 64, "n_head": 4, "vocab_size": 500, "n_positions": 64}
WHOLE = ("residual pre", "head outputs")
GRIDS = WHOLE + tuple(f"{kind} {c}" for kind in ("head", "paths to", "direct paths to") for c in "qkv")
BARS = {
    ("residual pre", 1, "3"): 35.0, ("residual pre", 1, "4"): 12.0,
    ("residual pre", 8, "3"): 9.0, ("residual pre", 8, "4"): 4.0,
    ("head outputs", 1, "3"): 6.0, ("head outputs", 8, "3"): 6.0,
} | {(grid, batch, "3"): 30.0 for grid in GRIDS if grid.startswith("direct paths") for batch in (1, 8)}  # fmt: skip
LENGTH, BATCHES = 16, (1, 8)
N_CHECKED, N_SAMPLED = 6, 24  # cells that are compared before, and that stand for all in the time
LONG = 20.0  # seconds of a turn of the library's that is taken once only
TOLERANCE = 0.01  # of the largest effect among the cells compared
PYTHONS = {"3": lens3_python, "4": lens4_python}


class Model(NamedTuple):
    """The library's parameters and configuration, and where the others read the same ones."""

    params: Any
    cfg: TransformerConfig
    directory: str


class Work(NamedTuple):
    """One batch's tokens, and the metric of its corrupted run, the mean over examples."""

    grids: dict[str, Callable[[], Found]]
    corrupted: float


def prepare(model: Model, batch: int, devices: Sequence[jax.Device]) -> Work:
    """Random tokens; the others find them in the model's directory."""
    draw, cfg = np.random.default_rng(batch), model.cfg
    clean, corrupted = draw.integers(0, cfg.d_vocab, (2, batch, LENGTH))
    answers, others = draw.integers(0, cfg.d_vocab, (2, batch))
    arrays = {"clean": clean, "corrupted": corrupted, "answers": answers, "others": others}
    np.savez(Path(model.directory, f"batch_{batch}.npz"), **arrays)
    metric: Metric = logit_difference(answers, others)
    logits = transformer.apply(model.params, jnp.asarray(corrupted), cfg)[:, -1]
    return Work(ours(model.params, cfg, clean, corrupted, metric, devices), float(metric.of(logits).mean()))


def n_cells(grid: str, cfg: TransformerConfig) -> int:
    """Of paths, those that lead to a later layer."""
    if "paths" in grid:
        return cfg.n_heads**2 * math.comb(cfg.n_layers, 2)
    return cfg.n_layers * {"residual pre": LENGTH, "head outputs": cfg.n_heads}.get(grid, LENGTH * cfg.n_heads)


def some_cells(grid: str, cfg: TransformerConfig, n: int, lens: str) -> list[list[int]]:
    """Cells at random; of 4.x's paths all those of a sender at a time, as it computes them, from two layers near the end."""
    draw, (n_layers, n_heads) = np.random.default_rng(0), (cfg.n_layers, cfg.n_heads)
    if grid.startswith("paths") and lens == "4":
        senders = [(layer, int(draw.integers(n_heads))) for layer in (n_layers - 2, n_layers - 4) if layer >= 0]
        return [[*s, to, head] for s in senders for to in range(s[0] + 1, n_layers) for head in range(n_heads)]
    if "paths" in grid:
        layers = [sorted(draw.choice(n_layers, 2, replace=False).tolist()) for _ in range(n)]
        return [[i, int(draw.integers(n_heads)), j, int(draw.integers(n_heads))] for i, j in layers]
    axes = {"residual pre": (LENGTH,), "head outputs": (n_heads,)}.get(grid, (LENGTH, n_heads))
    return draw.integers(0, (n_layers, *axes), (n, 1 + len(axes))).tolist()


def difference(found: Found, corrupted: float, cells: list[list[int]] | None, theirs: list[float]) -> float:
    """Largest difference between two sides' mean metrics, in parts of the largest effect."""
    mean = found.values.mean(-1)
    mine = mean.flatten() if cells is None else np.array([mean[tuple(cell)] for cell in cells])
    return float(np.abs(mine - np.array(theirs)).max() / np.abs(mine - corrupted).max())


def measure_grid(grid: str, batch: int, model: Model, work: Work, lenses: dict[str, Worker], rounds: int) -> dict:
    """A row of the table."""

    def run() -> float:
        started = time.perf_counter()
        work.grids[grid]()
        return time.perf_counter() - started

    started = time.perf_counter()
    found = work.grids[grid]()
    first = time.perf_counter() - started
    check(grid, batch, model.cfg, work, found, lenses)
    cells = {name: None if grid in WHOLE else some_cells(grid, model.cfg, N_SAMPLED, name) for name in lenses}
    mine, turns = [run()], {name: [] for name in lenses}
    for _ in range(rounds):
        for name, lens in lenses.items():
            turns[name].append(lens.ask(grid, batch, cells[name]))
            mine += [run()] if mine[0] < LONG else []
    seconds = statistics.median(mine)
    row = {"grid": grid, "batch": batch, "cells": n_cells(grid, model.cfg), "seconds": seconds, "lenses": {}}
    row |= {"compiling": first - seconds, "done": found.operations}
    for name, answers in turns.items():
        per_cell, shared = (statistics.median(a[key] for a in answers) for key in ("per_cell", "shared"))
        total = shared + per_cell * row["cells"]
        off = difference(found, work.corrupted, cells[name], answers[0]["values"])
        row["lenses"][name] = {"seconds": total, "ratio": total / seconds, "difference": off}
        row["lenses"][name] |= {"per_cell": per_cell, "shared": shared, "sampled": len(cells[name] or ())}
    return row | {"cone": operations(grid, cone(model.cfg, LENGTH), batch)}


def check(grid: str, batch: int, cfg: TransformerConfig, work: Work, found: Found, lenses: dict[str, Worker]) -> None:
    """Stop where the numbers of some cells differ."""
    for name, lens in lenses.items():
        cells = some_cells(grid, cfg, N_CHECKED, name)
        off = difference(found, work.corrupted, cells, lens.ask(grid, batch, cells)["values"])
        if not off < TOLERANCE:
            raise SystemExit(f"{grid}, batch {batch}: numbers differ by {off:.1e} from TransformerLens {lens.version}")


def measure(devices: Sequence[jax.Device], model: Model, arguments: argparse.Namespace, console: Console) -> Any:
    """The table on these devices."""
    on_cpu = devices[0].platform == "cpu"
    lenses = {} if arguments.alone else start(model.directory, "cpu" if on_cpu else "cuda", console)
    result: dict[str, Any] = {"device": devices[0].device_kind, "rows": []}
    result["versions"] = {name: lens.version for name, lens in lenses.items()}
    with jax.default_device(devices[0]):
        size = 2_048 if on_cpu else 8_192
        rate = product_rate(jnp.float32, size)
        model = model._replace(params=jax.device_put(model.params, devices[0]))
        for batch in arguments.batches:
            work = prepare(model, batch, devices)
            for grid in (g for g in GRIDS if wanted(g, arguments.grids) and (batch == 1 or not g.startswith("paths"))):
                row = measure_grid(grid, batch, model, work, lenses, arguments.rounds)
                result["rows"].append(row)
                console.print(said_of(row), highlight=False)
        rate = max(rate, product_rate(jnp.float32, size))
    for row in result["rows"]:
        row["floor"] = row["cone"] / rate
    for lens in lenses.values():
        lens.close()
    return result | {"gflops": rate / 1e9}


def wanted(grid: str, words: Sequence[str]) -> bool:
    """Whether a grid's name begins with one of the words, or there are none."""
    return not words or grid.startswith(tuple(words))


def said_of(row: dict[str, Any]) -> str:
    """A row while the others are still measured."""
    others = ", ".join(f"{lens['ratio']:.1f}× as fast as {name}.x" for name, lens in row["lenses"].items())
    return f"{row['grid']}, batch {row['batch']}: {row['seconds']:.3g} s{', ' * bool(others)}{others}"


def start(directory: str, device: str, console: Console) -> dict[str, Worker]:
    """The others that can be had here."""
    found = {}
    for name, python in PYTHONS.items():
        try:
            found[name] = Worker(python(), directory, device)
        except Unavailable as error:
            console.print(f"left out on {device}: TransformerLens {name}.x: {error}", highlight=False)
    return found


def load(shape: dict[str, int], directory: str, alone: bool) -> Model:
    """A random GPT-2 of this shape: the others' own, read from its directory, or one of the library where they are left out."""
    if not alone:
        make_weights(directory, shape)
        return Model(*huggingface.load(directory), directory)
    width, heads = shape["n_embd"], shape["n_head"]
    cfg = TransformerConfig(
        n_layers=shape["n_layer"], d_model=width, n_heads=heads, d_head=width // heads, d_mlp=4 * width,
        d_vocab=shape["vocab_size"], n_context=shape["n_positions"], positions="learned", tied=True, biases="layers",
    )  # fmt: skip
    return Model(transformer.init(jax.random.key(0), cfg), cfg, directory)


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--alone", action="store_true", help="the library only")
    parser.add_argument("--rounds", type=int, default=1, help="how often the sides take turns")
    parser.add_argument("--grids", nargs="+", default=(), help="only those whose names begin with one of these")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    arguments = parser.parse_args()
    jax.config.update("jax_compilation_cache_dir", None)
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as directory:
        try:
            model = load(QUICK if arguments.quick else SMALL, directory, arguments.alone)
            results = [measure(devices, model, arguments, console) for devices in places()]
        except Unavailable as error:
            raise SystemExit(f"TransformerLens stopped: {error}") from None
    for result in results:
        show(result, {} if arguments.quick else BARS, console)
    print(json.dumps({"benchmark": "patching", "results": results}))


def places() -> list[Sequence[jax.Device]]:
    """The CPU, and a GPU where there is one."""
    return [jax.devices("cpu"), *([d] for d in jax.devices()[:1] if d.platform != "cpu")]


if __name__ == "__main__":
    main()
