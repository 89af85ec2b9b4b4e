"""Training a population of toy models of superposition: against plain batched PyTorch, and PyTorch with the same tricks.

    ./launch/peers superposition [--quick]

20 features in 5 dimensions, batch 1,024, Adam, 10 and 100 instances, two CPU cores. Rows:

    PyTorch, plain         einsum over instances, autograd, torch.optim.Adam: how the paper's own code is organised
    PyTorch, same tricks   one uniform draw per feature, batch-minor data, gradient in Gram form, fused Adam
    interp_jax, threefry   `population` of `training_run`, the library's own path, with its default generator
    interp_jax, counter    the same with the counter generator

First the numbers: same weights and data give the same loss and gradient, and all rows train to the same loss. Then the rows
take turns, several times, and the medians are printed, compilation apart; PyTorch runs with one and
with two threads every time, and the faster counts.
With a GPU in JAX's reach, a second table shows how the library's throughput grows with the population there.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from interp_jax import randomness
from interp_jax.data.features import Features, draw_features, importance
from interp_jax.models import superposition
from interp_jax.models.superposition import ToyModel
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.population import place, population
from interp_jax.train.run import Run, Span, training_run
from third_party.peers import _superposition_torch as peer

N_CORES = 2
FLAGS = f"--xla_force_host_platform_device_count={N_CORES} --xla_cpu_multi_thread_eigen=false"  # one device per core
MODEL = ToyModel(kind="relu", n_features=20, n_hidden=5)
N_EXAMPLES = 1_024
RATE = 1e-3
LAW = Features(sparsity=0.9, importance_decay=0.8)
BARS = {(10, "counter"): 16.0, (100, "counter"): 14.0, (10, "threefry"): 8.0, (100, "threefry"): 7.0}
PLAIN, TRICKS, OURS = "PyTorch, plain", "PyTorch, same tricks", "interp_jax, {}"


@part
class Member:
    """A member of the population: what the library's own experiment calls its config."""

    seed: int = hyper(0)
    data: Features = LAW
    optimizer: Optimizer = Optimizer(learning_rate=RATE)


class Trained(NamedTuple):
    """Weights W [R, S, D] and b [R, S], and the seconds that training them took."""

    W: np.ndarray
    b: np.ndarray
    seconds: float


def our_run() -> Run:
    """The library's run of one member."""

    def init_params(seed: Any, member: Member) -> Any:
        return superposition.init(randomness.key(seed, "init"), MODEL)

    def loss(params: Any, member: Member, seed: Any, step: Any, shared: Any) -> Any:
        x = draw_features(member.data, MODEL.n_features, N_EXAMPLES, seed, "train", step)
        return superposition.loss(params, x, importance(member.data, MODEL.n_features), MODEL), {}

    return training_run(init_params, loss, lambda member: gradient_transformation(member.optimizer, 1))


class Ours:
    """A compiled population of `n` members on the given devices."""

    def __init__(self, n: int, generator: str, devices: list[jax.Device], batch: int):
        member = Member(data=dataclasses.replace(LAW, generator=generator))
        hypers = jax.tree.map(lambda leaf: jnp.full(n, leaf), member)
        self.hypers = place(dataclasses.replace(hypers, seed=jnp.arange(n, dtype=jnp.int32)), devices)
        run = our_run()
        self.state = population(lambda m, _: run.init(m.seed, m), batch, devices)(self.hypers, ())
        advance = population(lambda m, span: run.advance(*m, span, ()), batch, devices)
        started = time.perf_counter()
        self.advance = advance.lower((self.state, self.hypers), self.span(1)).compile()
        self.compile_seconds = time.perf_counter() - started

    def span(self, steps: int) -> Span:
        return Span(np.int32(0), np.int32(steps))

    def train(self, steps: int) -> Trained:
        started = time.perf_counter()
        state, _ = jax.block_until_ready(self.advance((self.state, self.hypers), self.span(steps)))
        seconds = time.perf_counter() - started
        return Trained(np.asarray(state.params["W"]), np.asarray(state.params["b"]), seconds)


def torch_trainer(train: Callable[..., peer.Weights], start: peer.Weights) -> Callable[[int], Trained]:
    """Training with the peer's function, timed with each number of threads, of which the fastest counts."""
    weight = torch.tensor(np.asarray(importance(LAW, MODEL.n_features)))

    def timed(steps: int, n_threads: int) -> Trained:
        torch.set_num_threads(n_threads)
        started = time.perf_counter()
        W, b = train(start, steps, N_EXAMPLES, 1 - LAW.sparsity, weight, RATE)
        return Trained(W.numpy(), b.numpy(), time.perf_counter() - started)

    return lambda steps: min((timed(steps, n) for n in range(1, N_CORES + 1)), key=lambda trained: trained.seconds)


def check_gradients(start: peer.Weights) -> float:
    """Same weights, same data: the largest difference of losses and gradients, relative to their size."""
    weight = importance(LAW, MODEL.n_features)
    x = jax.vmap(lambda seed: draw_features(LAW, MODEL.n_features, N_EXAMPLES, seed, "check", 0))(
        jnp.arange(len(start.W))
    )
    params = {"W": jnp.asarray(start.W.numpy()), "b": jnp.asarray(start.b.numpy()) + 0.05}
    value, ours = jax.vmap(jax.value_and_grad(lambda p, x: superposition.loss(p, x, weight, MODEL)))(params, x)
    weights = peer.Weights(*(torch.tensor(np.asarray(w), requires_grad=True) for w in (params["W"], params["b"])))
    data, torch_weight = torch.tensor(np.asarray(x)), torch.tensor(np.asarray(weight))
    loss = peer.plain_loss(weights, data.permute(2, 0, 1), torch_weight)
    loss.sum().backward()
    tricks = peer.tricks_grad(peer.Weights(*(w.detach() for w in weights)), data, torch_weight)
    pairs = [(value, loss.detach()), (ours["W"], weights.W.grad), (ours["b"], weights.b.grad)]
    pairs += [(tricks.W, weights.W.grad), (tricks.b, weights.b.grad)]
    return max(float(np.abs(np.asarray(a) - b.numpy()).max() / np.abs(b.numpy()).max()) for a, b in pairs)


def fresh_loss(trained: Trained) -> float:
    """Mean over the population of the loss on examples that nobody trained on."""
    x = draw_features(LAW, MODEL.n_features, 65_536, 0, "fresh", 0)
    params = {"W": jnp.asarray(trained.W), "b": jnp.asarray(trained.b)}
    weight = importance(LAW, MODEL.n_features)
    return float(jax.lax.map(lambda p: superposition.loss(p, x, weight, MODEL), params).mean())


def measure(n: int, quick: bool, console: Console) -> dict[str, Any]:
    """All rows at `n` instances: checks, then member-steps per second."""
    ours = {g: Ours(n, g, jax.devices("cpu"), 1) for g in randomness.GENERATORS}
    state = ours["threefry"].state
    start = peer.Weights(*(torch.tensor(np.asarray(state.params[name])) for name in ("W", "b")))
    rows: dict[str, Callable[[int], Trained]] = {
        PLAIN: torch_trainer(peer.train_plain, start),
        TRICKS: torch_trainer(peer.train_tricks, start),
        **{OURS.format(g): program.train for g, program in ours.items()},
    }
    difference = check_gradients(start)
    if difference > 1e-4:
        raise SystemExit(f"loss or gradient differ by {difference:.1e}: nothing was timed")
    steps = 500 if quick else 3_000
    losses = {name: fresh_loss(train(steps)) for name, train in rows.items()} if n == 10 else {}
    if losses and max(losses.values()) > 1.05 * min(losses.values()):
        raise SystemExit(f"losses after {steps} steps differ by more than 5%: {losses}")
    console.print(f"{n} instances: losses and gradients agree to {difference:.0e}", highlight=False)
    seconds, rounds = (0.5, 3) if quick else (2.0, 7)
    lengths = {name: max(10, int(20 * seconds / train(20).seconds)) for name, train in rows.items()}
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, train in rows.items():
            rates[name].append(n * lengths[name] / train(lengths[name]).seconds)
    return {
        "instances": n,
        "gradient_difference": difference,
        "losses": losses,
        "rates": {name: statistics.median(values) for name, values in rates.items()},
        "ratios": {name: statistics.median(np.array(v) / np.array(rates[PLAIN])) for name, v in rates.items()},
        "compile_seconds": {OURS.format(g): program.compile_seconds for g, program in ours.items()},
    }


def floor() -> dict[str, float]:
    """Microseconds that a member's step must take on one core here: products, passes over the batch, draws."""
    S, n_draws = MODEL.n_features, MODEL.n_features * N_EXAMPLES
    one = jax.devices("cpu")[0]
    square = jax.device_put(jnp.ones((512, 512)), one)
    flops = 2 * 512**3 / seconds_of(lambda i, a: a @ a * 1e-3, square)
    flow = 2 * 4 * n_draws / seconds_of(lambda i, a: a + 1.0, jax.device_put(jnp.ones(n_draws), one))
    draws = {
        g: seconds_of(
            lambda i, a, g=g: randomness.uniform(g, 0, "floor", i, (n_draws,)), jax.device_put(jnp.ones(n_draws), one)
        )
        for g in randomness.GENERATORS
    }
    # the batch is written once and read three times (product, derivative, product), the derivative written and read once
    parts = {"products": 4 * S * S * N_EXAMPLES / flops, "passes": 6 * 4 * n_draws / flow, **draws}
    return {name: 1e6 * value for name, value in parts.items()} | {"gflops": flops / 1e9, "gbytes": flow / 1e9}


def seconds_of(step: Callable[[Any, Any], Any], value: Any, repeats: int = 300) -> float:
    """Best seconds per application of `step` in a compiled loop on one core."""
    program = jax.jit(lambda value: jax.lax.fori_loop(0, repeats, step, value)).lower(value).compile()
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(program(value))
        best = min(best, time.perf_counter() - started)
    return best / repeats


def show(result: dict[str, Any], least: dict[str, float], console: Console) -> None:
    """The table of one population size."""
    n = result["instances"]
    table = Table(
        "",
        "member-steps/s",
        "ratio",
        "bar",
        "core-µs per step",
        "times the floor",
        "compilation, s",
        title=f"{n} instances",
    )
    for name, rate in result["rates"].items():
        generator = "threefry" if name.endswith("threefry") else "counter"
        bar = BARS.get((n, generator)) if name.startswith("interp_jax") else None
        cost = N_CORES * 1e6 / rate
        ideal = least["products"] + least["passes"] + least[generator]
        compilation = result["compile_seconds"].get(name)
        table.add_row(
            name,
            f"{rate:,.0f}",
            f"{result['ratios'][name]:.1f}×",
            "" if bar is None else f"{bar:.0f}×",
            f"{cost:.0f}",
            f"{cost / ideal:.1f}",
            "" if compilation is None else f"{compilation:.1f}",
        )
    console.print(table)


def saturate(console: Console, quick: bool) -> dict[str, dict[int, float]]:
    """Member-steps per second on a GPU against the size of the population, until it no longer grows."""
    gpu = [d for d in jax.devices() if d.platform == "gpu"][:1]
    rates: dict[str, dict[int, float]] = {}
    for generator in randomness.GENERATORS if gpu else ():
        rates[generator] = {}
        for n in (1, 10, 100, 1_000) if quick else (1, 10, 100, 1_000, 4_000, 16_000, 64_000):
            program = Ours(n, generator, gpu, n)
            steps = max(20, int(20 * 2.0 / max(min(program.train(20).seconds for _ in range(2)), 1e-3)))
            rates[generator][n] = n * steps / program.train(steps).seconds
            console.print(
                f"{gpu[0].device_kind}, {generator}: {n:6,} members {rates[generator][n]:14,.0f} member-steps/s"
            )
    return rates


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="shorter timings, 10 instances only")
    quick = parser.parse_args().quick
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"  # read when the backend starts, below
    console = Console(width=119)
    least = floor()
    console.print(
        f"floor on one core: {least['products']:.0f} µs of products at {least['gflops']:.0f} GFLOP/s,"
        f" {least['passes']:.0f} µs to pass over the batch at {least['gbytes']:.0f} GB/s,"
        f" draws {least['threefry']:.0f} µs (threefry) or {least['counter']:.0f} µs (counter)",
        highlight=False,
    )
    results = [measure(n, quick, console) for n in ((10,) if quick else (10, 100))]
    for result in results:
        show(result, least, console)
    print(
        json.dumps({"benchmark": "superposition", "floor_us": least, "cpu": results, "gpu": saturate(console, quick)})
    )


if __name__ == "__main__":
    main()
