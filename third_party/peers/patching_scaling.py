"""What a cell of an exact patch grid costs, against layers, positions and examples; no peer takes part.

    ./launch/peers patching_scaling [--quick] [--figure FILE.html]

A model of width 256 with random weights, residual stream × position, the measured logits two. One of layers, positions and
examples varies, the other two stay. Printed are microseconds per cell and example, what part of the machine's matrix rate the
arithmetic in the cells' cones reaches, and arithmetic done over arithmetic in the cones. A naive pass per cell is a full
forward pass: its arithmetic over that of the cones is the saving.
"""

import argparse
import json
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching import metrics
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.exact.plan import plan_grid
from interp_jax.patching.prompts import Prompts, prompts_of
from interp_jax.results.plot_style import Axes
from interp_jax.results.plots import Line, lines
from third_party.peers._rate import product_rate

VARIED = {"layers": (2, 4, 8, 16, 32), "positions": (8, 16, 32, 64, 128), "examples": (1, 2, 4, 8, 16, 32)}
QUICK = {"layers": (2, 4), "positions": (8, 16), "examples": (1, 2)}
USUAL = {"layers": 8, "positions": 32, "examples": 4}


class Point(NamedTuple):
    """One grid's cost.

    Attributes:
      seconds: of the whole grid, compilation left out.
      cells: times examples.
      share: of the machine's rate of matrix products, by the arithmetic in the cones.
      done: arithmetic done over arithmetic in the cones.
      saved: arithmetic of a full pass per cell over that in the cones.
    """

    seconds: float
    cells: int
    share: float
    done: float
    saved: float


def measure(layers: int, positions: int, examples: int, rate: float, rounds: int) -> Point:
    """One grid, after a run that does not count."""
    cfg = TransformerConfig(
        n_layers=layers, d_model=256, n_heads=4, d_head=64, d_mlp=1_024, d_vocab=1_000, n_context=positions,
        positions="learned", tied=True,
    )  # fmt: skip
    params = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), cfg)
    prompts, metric = contrast(cfg, positions, examples), metrics.logit_difference(*np.tile([[1], [2]], examples))
    grid = each("blocks.resid_pre", cfg, positions)
    seconds = []
    for turn in range(rounds + 1):
        started = time.perf_counter()
        patch_grid(params, cfg, prompts, grid, metric)
        seconds += [time.perf_counter() - started] if turn else []
    work = plan_grid(params, cfg, prompts, grid, metric).work
    took, full = statistics.median(seconds), layers * positions * 2.0 * 12 * cfg.d_model**2 * grid.n_cells
    return Point(
        took, grid.n_cells * examples, work.cone * examples / took / rate, work.done / work.cone, full / work.cone
    )


def contrast(cfg: TransformerConfig, positions: int, examples: int) -> Prompts:
    """Random tokens on both sides."""
    return prompts_of(*np.random.default_rng(0).integers(0, cfg.d_vocab, (2, examples, positions)))


def show(found: dict[str, dict[int, Point]], console: Console) -> None:
    """The table."""
    table = Table("varied", "", "cells × examples", "seconds", "µs each", "of the rate", "done / cones", "saved")
    for name, points in found.items():
        for value, p in points.items():
            table.add_row(
                name, str(value), f"{p.cells:,}", f"{p.seconds:.3f}", f"{1e6 * p.seconds / p.cells:.0f}",
                f"{p.share:.0%}", f"{p.done:.2f}", f"{p.saved:.1f}×",
            )  # fmt: skip
    console.print(table)


def figure(found: dict[str, dict[int, Point]]) -> Any:
    """Microseconds per cell and example, against what was varied."""
    series = [
        Line(name, list(points), [1e6 * p.seconds / p.cells for p in points.values()])
        for name, points in found.items()
    ]
    return lines(series, Axes("layers, positions or examples", "µs per cell and example", "log", "log"))


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few sizes, one round")
    parser.add_argument("--figure", help="write the plot there, as HTML")
    asked = parser.parse_args()
    console, rate = Console(width=128), product_rate(jnp.float32, 2_048)
    varied, rounds = (QUICK, 1) if asked.quick else (VARIED, 3)
    found = {
        name: {value: measure(**(USUAL | {name: value}), rate=rate, rounds=rounds) for value in values}
        for name, values in varied.items()
    }
    console.print(f"matrix products at {rate / 1e9:.0f} GFLOP/s; otherwise {USUAL}", highlight=False)
    show(found, console)
    if asked.figure:
        figure(found).write_html(asked.figure, config={"displayModeBar": False})
    print(
        json.dumps(
            {
                "benchmark": "patching_scaling",
                "usual": USUAL,
                "points": {k: {n: p._asdict() for n, p in v.items()} for k, v in found.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
