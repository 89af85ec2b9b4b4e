"""Which products a TopK dictionary is trained with: an update with sparse and with dense ones, by the share of features active.

    ./launch/peers products [--quick] [--shapes 256 768]

After the encoder's product only the k active of F features matter: "sparse" products touch their rows of the weights, "dense"
ones multiply by the whole matrix of features (`dictionaries/chosen.py`). No peer takes part: this is the measurement by which
`Dictionary.products = "auto"` decides. Both sides begin with the same parameters and have the same loss after their updates.
"""

import argparse
import json
import statistics
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from third_party.peers._dictionaries_torch import Shape
from third_party.peers.dictionaries import FEATURES, SAME, Ours, in_turns

SHARES = (512, 256, 128, 64, 32, 16)  # F / k
BATCH = 1_024
PRODUCTS = ("sparse", "dense")


def measure(d_in: int, n_features: int, share: int, rounds: int) -> dict[str, Any]:
    """One row: seconds of an update with either."""
    k = max(1, n_features // share)
    x = np.random.default_rng(0).normal(size=(BATCH, d_in)).astype(np.float32)
    shape = Shape(d_in, n_features, BATCH, k, (n_features,))
    sides = {products: Ours("topk", shape, x, products=products) for products in PRODUCTS}
    seconds = in_turns({products: ours.update for products, ours in sides.items()}, rounds, updates=3)
    again = [Ours("topk", shape, x, products=products) for products in PRODUCTS]
    for ours in again:
        ours.update(3)
    losses = [ours.loss() for ours in again]
    if abs(losses[0] - losses[1]) > SAME * abs(losses[1]):
        raise SystemExit(f"d = {d_in}, k = {k}: losses differ: {losses}")
    medians = {products: statistics.median(taken) for products, taken in seconds.items()}
    return {"d_in": d_in, "n_features": n_features, "k": k, "seconds": medians}


def main() -> None:
    """Measure, print, and end with a line of JSON."""
    parser = argparse.ArgumentParser(prog="products.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small shape")
    parser.add_argument("--shapes", nargs="+", type=int, default=[256, 768], choices=list(FEATURES), help="widths d")
    parser.add_argument("--rounds", type=int, default=3, help="how often the sides take turns")
    options = parser.parse_args()
    shapes = [(32, 256)] if options.quick else [(d_in, FEATURES[d_in]) for d_in in options.shapes]
    table = Table("d", "F", "k", "k / F", *(f"{products}, ms" for products in PRODUCTS), "dense / sparse")
    rows = []
    for (d_in, n_features), share in ((shape, share) for shape in shapes for share in SHARES):
        if n_features >= share:
            row = measure(d_in, n_features, share, 1 if options.quick else options.rounds)
            rows.append(row)
            sparse, dense = (row["seconds"][products] for products in PRODUCTS)
            told = [f"{d_in}", f"{n_features:,}", f"{row['k']}", f"1 / {share}"]
            table.add_row(*told, f"{1e3 * sparse:.1f}", f"{1e3 * dense:.1f}", f"{dense / sparse:.2f}")
    Console(width=120).print(table)
    print(json.dumps({"benchmark": "products", "batch": BATCH, "rows": rows}))


if __name__ == "__main__":
    main()
