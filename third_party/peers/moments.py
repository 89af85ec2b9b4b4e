"""Streaming moments: against the matrix product that they need, and against NumPy's covariance in float64.

    ./launch/peers moments [--quick]

Both read the same blocks of float32 rows on the device. The product is the bare xᵀx of each block: no centring, no weights,
no targets, no compensation. The bar is 1.3 times its time, the median over turns. Bytes are those of the sums, beside the
plan's.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from interp_jax.activations.moment_sums import add, begin
from interp_jax.activations.moments import cost, finish
from third_party.peers._rate import product_rate

BAR = 1.3
MOST_ERROR = 1e-6
ROWS, TARGETS = 8_192, 2  # of a block


class Size(NamedTuple):
    """Sites and their width, and how many blocks of rows are read."""

    sites: int
    width: int
    blocks: int


SIZES = (Size(1, 256, 16), Size(1, 768, 8), Size(1, 2304, 2), Size(4, 576, 4))
QUICK = (Size(1, 256, 2), Size(2, 64, 2))


def seconds(run: Callable[[], Any]) -> float:
    """Of a run."""
    started = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - started


def measure(size: Size, rounds: int) -> dict[str, Any]:
    """A row: the numbers agree, then the sides take turns."""
    rng = np.random.default_rng(0)
    shape = (ROWS, size.width) if size.sites == 1 else (size.sites, ROWS, size.width)
    x = rng.normal(size=shape).astype(np.float32) + 5
    block = (jnp.asarray(x), jnp.asarray(rng.normal(size=(ROWS, TARGETS)).astype(np.float32)))
    product = jax.jit(lambda x: jnp.einsum("...nd,...ne->...de", x, x, precision="highest"))
    step = jax.jit(lambda sums, x, z: add(sums, x, z), donate_argnums=0)
    start = jax.jit(begin)
    error = difference(finish(step(start(*block), *block)), x)
    if error > MOST_ERROR:
        raise SystemExit(
            f"{size}: a covariance is {error:.1e} off in units of variances; at most {MOST_ERROR:g} is rounding"
        )

    def streamed() -> Any:
        sums = start(*block)
        for _ in range(size.blocks):
            sums = step(sums, *block)
        return sums

    sides = {
        "streamed": streamed,
        "product": lambda: [product(block[0]) for _ in range(size.blocks)],
        "numpy float64": lambda: [np.cov(x.reshape(-1, ROWS, size.width)[0], rowvar=False)],
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(1 + rounds):
        for name, run in sides.items():
            if name != "numpy float64" or turn <= 1:
                taken[name] += [seconds(run)] if turn else []
    medians = {name: statistics.median(each) for name, each in taken.items()}
    ratio = statistics.median(a / b for a, b in zip(taken["streamed"], taken["product"], strict=True))
    medians["numpy float64"] *= size.sites * size.blocks
    held = cost(size.width, TARGETS, size.sites)
    sums = start(*block)
    own = sums.high.nbytes + sums.low.nbytes
    return {**size._asdict(), "error": error, "ratio": ratio, "seconds": medians, "bytes": own, "planned": held.device}


def difference(got: Any, x: np.ndarray) -> float:
    """The largest error of a covariance, in units of the variances."""
    worst = 0.0
    for i, rows in enumerate(x.reshape(-1, ROWS, x.shape[-1])):
        want = np.cov(rows.astype(np.float64), rowvar=False, bias=True)
        own = got.covariance if x.ndim == 2 else got.covariance[i]
        worst = max(worst, float(np.abs((own - want) / np.sqrt(np.outer(np.diag(want), np.diag(want)))).max()))
    return worst


def rows(quick: bool = False, rounds: int = 7) -> list[dict[str, Any]]:
    """The rows of the table, each with its figures."""
    return [measure(size, 1 if quick else rounds) for size in (QUICK if quick else SIZES)]


def main() -> None:
    """Measure, print, and end with a line of JSON."""
    parser = argparse.ArgumentParser(prog="moments.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    found, rate = rows(options.quick), product_rate(jnp.float32, 2_048)
    table = Table("sites × width", "rows", "streamed", "product", "ratio", "NumPy float64", "times the floor", "error")
    for row in found:
        operations = 2.0 * row["sites"] * row["blocks"] * ROWS * row["width"] ** 2
        own, product, numpy = (row["seconds"][name] for name in ("streamed", "product", "numpy float64"))
        table.add_row(
            f"{row['sites']} × {row['width']}", f"{row['blocks'] * ROWS:,}", f"{own:.3f} s", f"{product:.3f} s",
            f"{row['ratio']:.2f} (bar {BAR})", f"{numpy:.3f} s", f"{own * rate / operations:.2f}", f"{row['error']:.0e}",
        )  # fmt: skip
    console = Console(width=120)
    console.print(f"floor: matrix products at {rate / 1e9:.0f} GFLOP/s", highlight=False)
    console.print(table)
    print(json.dumps({"benchmark": "moments", "bar": BAR, "rows": found}))


if __name__ == "__main__":
    main()
