"""Training dictionaries, an update of each kind: against SAELens and dictionary_learning.

    ./launch/peers dictionaries [--quick] [--shapes 256 768] [--kinds topk …] [--batches 1024 4096]
    ./launch/peers dictionaries --rates [--tiny]        for a GPU: the library alone, see `_dictionary_rates.py`

Widths d = 256, 512, 768 with F = 2,048, 4,096, 16,384 features; 32 of them active. All sides begin with the same parameters on
the same activations, and say what their losses are; where these are defined alike they agree. All clip the gradient's norm and
count how long features have been silent. For the kinds with a k, and Gated, dictionary_learning keeps rows of the decoder unit
and takes the gradient's part along them off, and so does the library; SAELens rescales features by the rows instead, by
default. SAELens' fastest configuration is sparse activations without that.

Then they take turns. Seconds are those of an update, of which the library takes at least ten in one call, as in training; the
floor is the time of the products that cannot be left out at the rate that a large product reaches here: the encoder's alone
where k features are chosen, and else four of a dense dictionary (encoding, decoding, and both gradients), and seven of Gated.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from interp_jax import parts
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import BY_K, Dictionary
from interp_jax.dictionaries.judged import Batch, Situation
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.population import population
from interp_jax.train.run import Span
from third_party.peers._dictionaries_torch import LEARNING, RATE, SAELENS, SAELENS_SPARSE, STEPS, Peer, Shape, peers
from third_party.peers._dictionary_rates import rates
from third_party.peers._rate import product_rate

OURS = "interp_jax"
PEERS = (SAELENS, SAELENS_SPARSE, LEARNING)
KINDS = ("standard", "gated", "jumprelu", "topk", "batch_topk", "matryoshka")
FEATURES = {256: 2_048, 512: 4_096, 768: 16_384}
SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)
K = 32
SAME = 1e-4  # relative difference of losses
LEAST_SECONDS, LEAST_UPDATES = (
    1.0,
    10,
)  # of a turn; the library takes that many steps of a span, as a training run does


@part
class Settings:
    """What the run is given."""

    seed: int = hyper(0)
    dictionary: Dictionary = Dictionary()
    optimizer: Optimizer = Optimizer(learning_rate=RATE, clip_norm=1.0)


def bar(kind: str, d_in: int, who: str) -> float | None:
    """How many times as fast the library has to be: as the fastest of others, and as each in its default."""
    if kind not in ("topk", "batch_topk"):
        return None if kind in BY_K else 1.0
    fastest, default = {256: (2.0, 2.5), 768: (3.0, 4.5)}.get(d_in, (None, None))
    return fastest if who == SAELENS_SPARSE else default


class Ours:
    """The library's dictionary; an update of it, and its loss."""

    def __init__(self, kind: str, shape: Shape, x: np.ndarray, products: str = "auto") -> None:
        sizes = {"d_in": shape.d_in, "n_features": shape.n_features, "most": shape.k, "k": shape.k}
        cfg = Dictionary(kind=kind, prefixes=SHARES, products=products, **sizes)
        self.hypers = Settings(dictionary=cfg)
        self.x = jnp.asarray(x)
        run = dictionary_run(
            lambda hypers, shared, seed, step: Batch(shared, shared),
            lambda hypers: (hypers.dictionary, hypers.optimizer, STEPS),
        )
        members = jax.tree.map(jnp.asarray, parts.stack([self.hypers]))
        self.state = population(lambda hypers, _: run.init(hypers.seed, hypers))(members, ())

        def advance(state: Any, hypers_span: Any) -> Any:
            hypers, span, shared = hypers_span
            return run.advance(state, hypers, span, shared)[0]

        self.program = population(advance, donate=True)
        self.done = 0

    @property
    def params(self) -> dict[str, np.ndarray]:
        """Those that it has now."""
        return {name: np.asarray(value[0]) for name, value in self.state.params.items()}

    def loss(self, **changes: Any) -> float:
        """Its loss on the activations, or that of the same dictionary but for some changes."""
        cfg = self.hypers.dictionary
        changed = Dictionary(**{**{name: getattr(cfg, name) for name in cfg.__dataclass_fields__}, **changes})
        situation = Situation(jnp.float32(1), jnp.zeros(cfg.n_features, bool))
        params = {name: value[0] for name, value in self.state.params.items()}
        judge = jax.jit(lambda params, x: dictionary.loss(params, Batch(x, x), changed, situation).loss)
        return float(judge(params, self.x))

    def update(self, n: int) -> None:
        """So many updates, to their end."""
        span = Span(np.int32(self.done), np.int32(self.done + n))
        self.state = jax.block_until_ready(self.program(self.state, (self.hypers, span, self.x)))
        self.done += n


def check(kind: str, ours: Ours, theirs: dict[str, Peer]) -> dict[str, float]:
    """Relative differences of the losses, as they are defined."""
    found = {}
    for who, peer in theirs.items():
        scale, changes = 1.0, {}
        if kind == "matryoshka" and who != LEARNING:
            scale = len(SHARES)  # SAELens adds the prefixes' errors up
        if kind == "jumprelu" and who == LEARNING:
            changes = {"penalty": "target", "target": float(K)}
        mine = scale * ours.loss(**changes)
        found[who] = abs(peer.loss() - mine) / abs(mine)
    return found


def in_turns(
    sides: dict[str, Callable[[int], Any]], rounds: int, updates: int = LEAST_UPDATES
) -> dict[str, list[float]]:
    """Seconds of an update of each side in each round.

    Each side takes as many as a turn's seconds ask for, and the library, in one call, at least `updates`.
    """
    counts = {}
    for who, run in sides.items():
        least = 1 if who in PEERS else updates
        run(1)
        started = time.perf_counter()
        run(least)
        counts[who] = max(least, round(least * LEAST_SECONDS / (time.perf_counter() - started)))
    seconds: dict[str, list[float]] = {who: [] for who in sides}
    for _ in range(rounds):
        for who, run in sides.items():
            started = time.perf_counter()
            run(counts[who])
            seconds[who].append((time.perf_counter() - started) / counts[who])
    return seconds


def floor(kind: str, shape: Shape, rate: float) -> float:
    """Seconds of the products that cannot be left out."""
    products = 1 if kind in BY_K else 7 if kind == "gated" else 4
    return products * 2.0 * shape.batch * shape.d_in * shape.n_features / rate


def measure(kind: str, shape: Shape, rounds: int, rate: float) -> dict[str, Any]:
    """One row."""
    x = np.random.default_rng(0).normal(size=(shape.batch, shape.d_in)).astype(np.float32)
    ours = Ours(kind, shape, x)
    theirs = peers(kind, shape, ours.params, x)
    differences = check(kind, ours, theirs)
    if max(differences.values()) > SAME:
        raise SystemExit(f"{kind}: losses differ, so nothing was timed: {differences}")
    sides: dict[str, Callable[[int], Any]] = {OURS: ours.update}
    sides |= {who: lambda n, peer=peer: [peer.update() for _ in range(n)] for who, peer in theirs.items()}
    seconds = in_turns(sides, rounds)
    medians = {who: statistics.median(taken) for who, taken in seconds.items()}
    ratios = {who: statistics.median(np.array(taken) / np.array(seconds[OURS])) for who, taken in seconds.items()}
    found = {"kind": kind, **shape._asdict(), "seconds": medians, "ratios": ratios, "differences": differences}
    return found | {"floor": floor(kind, shape, rate)}


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """The table."""
    table = Table(
        "kind",
        "d",
        "F",
        "batch",
        OURS,
        "times the floor",
        *(f"{w}: we are" for w in PEERS),
    )
    for row in rows:
        told = [row["kind"], f"{row['d_in']}", f"{row['n_features']:,}", f"{row['batch']:,}"]
        own = row["seconds"][OURS]
        told += [f"{1e3 * own:.1f} ms", f"{own / row['floor']:.1f}"]
        for who in PEERS:
            wanted = bar(row["kind"], row["d_in"], who)
            asked = "" if wanted is None else f" (bar {wanted:g})"
            told.append(f"{row['ratios'][who]:.2f}×{asked}" if who in row["ratios"] else "")
        table.add_row(*told)
    console.print(table)


def main() -> None:
    """Measure, print, and end with a line of JSON."""
    parser = argparse.ArgumentParser(prog="dictionaries.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument(
        "--shapes", nargs="+", type=int, default=list(FEATURES), choices=list(FEATURES), help="widths d"
    )
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1_024, 4_096])
    parser.add_argument("--rounds", type=int, default=5, help="how often the sides take turns")
    parser.add_argument(
        "--rates", action="store_true", help="activations a second, of one and of populations; for a GPU"
    )
    parser.add_argument("--tiny", action="store_true", help="of --rates: shapes that try it anywhere")
    parser.add_argument("--populations", nargs="+", type=int, default=[], help="of --rates: members")
    parser.add_argument("--precision", choices=("highest", "default"), default="highest", help="of --rates")
    options = parser.parse_args()
    if options.rates:
        rates(options.kinds, options.populations, options.tiny, options.precision)
        return
    console, rate, rows = Console(width=140), product_rate(jnp.float32, 2_048), []
    console.print(f"floor: matrix products at {rate / 1e9:.0f} GFLOP/s", highlight=False)
    shapes = [(64, 512)] if options.quick else [(d, FEATURES[d]) for d in options.shapes]
    for d, n_features in shapes:
        for batch in [128] if options.quick else options.batches:
            prefixes = tuple(round(share * n_features) for share in SHARES)
            for kind in options.kinds:
                shape = Shape(d, n_features, batch, K, prefixes)
                rows.append(measure(kind, shape, 1 if options.quick else options.rounds, rate))
                told = ", ".join(f"{who} {r:.2f}×" for who, r in rows[-1]["ratios"].items() if who != OURS)
                console.print(
                    f"{kind}, d = {d}, batch {batch}: {1e3 * rows[-1]['seconds'][OURS]:.1f} ms; {told}",
                    highlight=False,
                )
    show(rows, console)
    print(json.dumps({"benchmark": "dictionaries", "gflops": rate / 1e9, "rows": rows}))


if __name__ == "__main__":
    main()
