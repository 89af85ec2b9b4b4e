"""Harvesting and training end to end: a TopK dictionary on a layer of a model, here and in SAELens.

    ./launch/peers harvest [--quick]

Both read the same windows of tokens with a model of the same shape (random weights) up to the layer that is read, shuffle rows
over a buffer of 20 batches, and train a dictionary of the same shape on them, with everything that belongs to a step. SAELens
is run as it comes, and with sparse activations. Seconds are those of a step, harvesting included; the floor is the time of the
products of the model's layers, of the encoder, at the rate that a large product reaches here.
"""

import argparse
import json
import statistics
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from interp_jax import parts
from interp_jax.activations.harvest import Harvest, Place, stretch
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.population import population
from interp_jax.train.run import Span
from third_party.peers._harvest_torch import Setting, saelens
from third_party.peers._rate import product_rate

OURS, SAELENS, SPARSE = "interp_jax", "SAELens", "SAELens, sparse"
BAR = 1.0
WINDOWS = 4_096  # of the text


@part
class Settings:
    """What the run is given."""

    seed: int = hyper(0)
    dictionary: Dictionary = Dictionary()
    optimizer: Optimizer = Optimizer(learning_rate=3e-4, clip_norm=1.0)


class Ours:
    """The library's: a stretch of activations is harvested, and the steps on it are taken, again and again."""

    def __init__(self, s: Setting, tokens: np.ndarray) -> None:
        cfg = TransformerConfig(
            n_layers=s.layers, d_model=s.d_model, n_heads=s.heads, d_head=s.d_model // s.heads, d_mlp=s.d_mlp,
            d_vocab=s.vocab, n_context=s.context, positions="learned",
        )  # fmt: skip
        params = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), cfg)
        text = jnp.asarray(tokens)

        def windows(seed: Any, b: Any, n: int) -> Any:
            return text[(b * n + jnp.arange(n)) % len(text)]

        def harvest(params: Any, b: Any) -> Any:
            model = lambda tokens: transformer.stream(params, tokens, cfg, stop_layer=s.layer + 1)
            how = Harvest(windows=s.windows, skip_first=0, spare=0.0)
            here = {"read": Place("blocks.resid_post", s.layer)}
            return stretch(model, windows, here, how, (s.buffer, s.batch, s.context), 0, b)["read"]

        own = Dictionary(kind="topk", d_in=s.d_model, n_features=s.n_features, most=s.k, k=s.k)
        self.hypers = Settings(dictionary=own)
        at = lambda x, step: jax.lax.dynamic_index_in_dim(x, step % s.buffer, keepdims=False)
        run = dictionary_run(
            lambda hypers, x, seed, step: Batch(at(x, step), at(x, step)),
            lambda hypers: (hypers.dictionary, hypers.optimizer, 1_000_000),
        )
        members = jax.tree.map(jnp.asarray, parts.stack([self.hypers]))
        self.state = population(lambda hypers, _: run.init(hypers.seed, hypers))(members, ())
        advance = lambda state, given: run.advance(state, given[0], given[1], given[2])[0]
        self.program, self.harvest = population(advance, donate=True), partial(jax.jit(harvest), params)
        self.done, self.buffer = 0, s.buffer

    def run(self, n: int) -> None:
        """So many steps, in whole stretches."""
        for _ in range(-(-n // self.buffer)):
            x = self.harvest(self.done // self.buffer)
            span = Span(np.int32(self.done), np.int32(self.done + self.buffer))
            self.state = self.program(self.state, (self.hypers, span, x))
            self.done += self.buffer
        jax.block_until_ready(self.state)


def floor(s: Setting, rate: float) -> float:
    """Seconds of the products of a step: of the layers up to the one that is read, without scores; the encoder's."""
    layer = 2.0 * s.batch * s.d_model * (4 * s.d_model + 2 * s.d_mlp)
    return ((s.layer + 1) * layer + 2.0 * s.batch * s.d_model * s.n_features) / rate


def main() -> None:
    """Measure, print, and end with a line of JSON."""
    parser = argparse.ArgumentParser(prog="harvest.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--rounds", type=int, default=3, help="how often the sides take turns")
    options = parser.parse_args()
    small = Setting(d_model=64, d_mlp=128, context=32, n_features=256, k=8, batch=128, windows=8)
    s = small if options.quick else Setting()
    rate = product_rate(jnp.float32, 2_048)
    tokens = np.random.default_rng(0).integers(0, s.vocab, (WINDOWS, s.context)).astype(np.int32)
    sides: dict[str, Any] = {OURS: Ours(s, tokens).run}
    sides |= {name: saelens(s, tokens, sparse) for name, sparse in ((SAELENS, False), (SPARSE, True))}
    steps = s.buffer * (1 if options.quick else 2)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(1 + (1 if options.quick else options.rounds)):
        for name, run in sides.items():
            started = time.perf_counter()
            run(steps)
            seconds[name] += [(time.perf_counter() - started) / steps] if turn else []
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    table = Table("", "ms a step", "activations a second", "we are", "times the floor")
    for name, median in medians.items():
        told = "" if name == OURS else f"{median / medians[OURS]:.2f}× (bar {BAR:g})"
        table.add_row(name, f"{1e3 * median:.1f}", f"{s.batch / median:,.0f}", told, f"{median / floor(s, rate):.1f}")
    console = Console(width=120)
    console.print(f"{s}\nfloor: matrix products at {rate / 1e9:.0f} GFLOP/s", highlight=False)
    console.print(table)
    print(json.dumps({"benchmark": "harvest", **s._asdict(), "seconds": medians, "floor": floor(s, rate)}))


if __name__ == "__main__":
    main()
