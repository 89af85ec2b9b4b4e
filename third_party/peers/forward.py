"""A published transformer's forward pass, recording and gradient: against transformers and TransformerLens.

    ./launch/peers forward [--quick]

GPT-2 small's shape with random weights, batch 8 × 64 tokens. Tasks:

    forward               logits
    forward, recorded     logits and the residual stream at every place where it changes: before, in and after each layer
                          (transformers keeps it before and after only)
    forward and backward  gradient of the mean next-token loss for all parameters

First the numbers: all three make the same logits, streams and gradients from the same weights. Then they take turns, and the
medians are printed beside the floor, which is the time of the matrix products alone at the rate that a large product reaches
here. Compilation is printed apart, without and with the persistent cache of compiled programs that the launchers turn on.
With a GPU in JAX's reach, the same tasks are timed there in float32 and bfloat16, beside transformers where PyTorch reaches it.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.train.language import next_token_losses
from third_party import huggingface
from third_party.peers import _forward_torch as peer
from third_party.peers._rate import product_rate

TASKS = ("forward", "forward, recorded", "forward and backward")
OURS, HF, LENS = "interp_jax", "transformers, eager", "TransformerLens"
BARS = {("forward, recorded", LENS): 1.2, ("forward", HF): 1.0}
STREAMS = ("blocks.resid_pre", "blocks.resid_mid", "blocks.resid_post")
SMALL, QUICK = peer.Shape(12, 768, 12, 50_257, 1_024), peer.Shape(3, 128, 4, 5_000, 128)
BATCH, LENGTH = 8, 64


class Ours(NamedTuple):
    """The library's model, its tokens, and a compiled program per task."""

    params: Any
    cfg: TransformerConfig
    tokens: jax.Array
    programs: dict[str, Callable[..., Any]]

    def run(self, task: str) -> Any:
        """One task, to its end."""
        return jax.block_until_ready(self.programs[task](self.params, self.tokens))


def our_model(params: Any, cfg: TransformerConfig, tokens: np.ndarray) -> Ours:
    """The three tasks, each as one jitted program of params and tokens."""

    def model(params: Any, tokens: Any) -> Any:
        return transformer.apply(params, tokens, cfg)

    def loss(params: Any, tokens: Any) -> Any:
        return next_token_losses(params, tokens, cfg).mean()

    tasks = (model, taps.record(model, STREAMS), jax.grad(loss))
    return Ours(params, cfg, jnp.asarray(tokens), {name: jax.jit(f) for name, f in zip(TASKS, tasks, strict=True)})


def check(ours: Ours, hf: peer.Model, lens: peer.Model) -> dict[str, float]:
    """Largest difference between the three, relative to the size of what is compared."""
    logits, acts = ours.run(TASKS[1])
    found = {}
    for name, other in ((HF, hf), (LENS, lens)):
        theirs = other.compare()
        mine = {"logits": logits, "gradient of W_E": ours.run(TASKS[2])["embed"]["W_E"]}
        mine |= {site: acts[site] for site in STREAMS if site in theirs}
        if "gradient of W_E + W_U" in theirs:  # TransformerLens keeps the two apart, GPT-2 has one
            mine["gradient of W_E + W_U"] = mine.pop("gradient of W_E")
        for key, value in theirs.items():
            found[f"{name}: {key}"] = float(np.abs(value - np.asarray(mine[key])).max() / np.abs(value).max())
    return found


def time_in_turns(rows: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each row in each round; each takes its turn, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 1):
        for name, run in rows.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def compile_seconds(ours: Ours) -> dict[str, dict[str, float]]:
    """Seconds to trace and compile each task: without the persistent cache, and with its entry already there."""
    found: dict[str, dict[str, float]] = {}
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (ours.params, ours.tokens))
    with tempfile.TemporaryDirectory() as directory:
        for label, cache in (("without", None), ("fill", directory), ("cached", directory)):
            jax.config.update("jax_compilation_cache_dir", cache)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.experimental.compilation_cache.compilation_cache.reset_cache()
            for task, program in ours.programs.items():
                jax.clear_caches()
                started = time.perf_counter()
                program.lower(*shapes).compile()
                found.setdefault(task, {})[label] = time.perf_counter() - started
        jax.config.update("jax_compilation_cache_dir", None)
    return found


def floating_operations(cfg: TransformerConfig, batch: int, length: int) -> float:
    """Of the matrix products of one forward pass; the backward pass has twice as many."""
    per_row = cfg.n_layers * (4 * cfg.d_model * cfg.n_heads * cfg.d_head + 2 * cfg.d_model * cfg.d_mlp)
    attended = cfg.n_layers * cfg.n_heads * cfg.d_head * length  # causal: scores and mix, each over half of the keys
    return 2.0 * batch * length * (per_row + attended + cfg.d_model * cfg.d_vocab)


def measure(shape: peer.Shape, rounds: int, console: Console) -> dict[str, Any]:
    """The table on the CPU."""
    tokens = np.random.default_rng(0).integers(0, shape.d_vocab, (BATCH, LENGTH))
    hf = peer.hugging_face(shape, tokens)
    with tempfile.TemporaryDirectory() as directory:
        hf.module.save_pretrained(directory)
        ours = our_model(*huggingface.load(directory), tokens)
    lens = peer.transformer_lens(shape, tokens, hf)
    differences = check(ours, hf, lens)
    if max(differences.values()) > 1e-4:
        raise SystemExit(f"numbers differ: nothing was timed: {differences}")
    console.print(f"logits, streams and gradients agree to {max(differences.values()):.0e}", highlight=False)
    flops, rate = floating_operations(ours.cfg, BATCH, LENGTH), product_rate(jnp.float32, 2_048)
    result: dict[str, Any] = {"gflops": rate / 1e9, "differences": differences, "seconds": {}, "ratios": {}}
    for task in TASKS:
        rows = {OURS: lambda t=task: ours.run(t), HF: lambda t=task: hf.run(t), LENS: lambda t=task: lens.run(t)}
        seconds = time_in_turns(rows, rounds)
        floor = flops * (3 if task == TASKS[2] else 1) / rate
        result["seconds"][task] = {name: statistics.median(s) for name, s in seconds.items()} | {"floor": floor}
        result["ratios"][task] = {
            name: statistics.median(np.array(s) / np.array(seconds[OURS])) for name, s in seconds.items()
        }
    result["compile_seconds"] = compile_seconds(ours)
    return result


def show(result: dict[str, Any], console: Console) -> None:
    """The table."""
    table = Table(
        "task", "", "seconds", "interp_jax is", "bar", "times the floor", "compilation, s", "from the cache, s"
    )
    for task, rows in result["seconds"].items():
        for name in (OURS, HF, LENS):
            ratio, bar = result["ratios"][task][name], BARS.get((task, name))
            compiled = result["compile_seconds"][task] if name == OURS else None
            table.add_row(
                task if name == OURS else "",
                name,
                f"{rows[name]:.3f}",
                "" if name == OURS else f"{ratio:.2f}× as fast",
                "" if bar is None else f"{bar:.1f}×",
                f"{rows[name] / rows['floor']:.1f}",
                "" if compiled is None else f"{compiled['without']:.1f}",
                "" if compiled is None else f"{compiled['cached']:.2f}",
            )
    console.print(f"floor: matrix products at {result['gflops']:.0f} GFLOP/s", highlight=False)
    console.print(table)


def measure_gpu(shape: peer.Shape, rounds: int, console: Console) -> list[dict[str, Any]]:
    """Rows of the table on a GPU, where there is one: float32 in full precision, and bfloat16."""
    if not any(d.platform == "gpu" for d in jax.devices()):
        return []
    cfg, found = peer.our_config(shape), []
    tokens = np.random.default_rng(0).integers(0, shape.d_vocab, (BATCH, LENGTH))
    for dtype in ("float32", "bfloat16"):
        params = jax.tree.map(lambda x: x.astype(dtype), transformer.init(jax.random.key(0), cfg))  # noqa: B023
        ours, rate = our_model(params, cfg, tokens), product_rate(jnp.dtype(dtype), 8_192)
        hf = peer.hugging_face(shape, tokens, "cuda", dtype) if peer.has_gpu() else None
        for task in TASKS:
            rows = {OURS: lambda t=task: ours.run(t)}  # noqa: B023
            rows |= {} if hf is None else {HF: lambda t=task: (hf.run(t), peer.finish())}  # noqa: B023
            work = floating_operations(cfg, BATCH, LENGTH) * (3 if task == TASKS[2] else 1)
            for who, seconds in time_in_turns(rows, rounds).items():
                took = statistics.median(seconds)
                found.append(
                    {"dtype": dtype, "task": task, "who": who, "seconds": took, "flops": work / took, "rate": rate}
                )
    show_gpu(found, console)
    return found


def show_gpu(rows: list[dict[str, Any]], console: Console) -> None:
    """The table on a GPU."""
    table = Table("task", "", "", "ms", "TFLOP/s", "of the rate of a large product")
    for row in rows:
        share = f"{row['flops'] / row['rate']:.0%} of {row['rate'] / 1e12:.0f}"
        table.add_row(
            row["task"], row["dtype"], row["who"], f"{1e3 * row['seconds']:.2f}", f"{row['flops'] / 1e12:.1f}", share
        )
    console.print(table)


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model, few rounds")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    torch.set_num_threads(2)
    console = Console(width=128)
    shape, rounds = (QUICK, 3) if quick else (SMALL, 9)
    with jax.default_device(jax.devices("cpu")[0]):
        result = measure(shape, rounds, console)
    show(result, console)
    print(json.dumps({"benchmark": "forward", "cpu": result, "gpu": measure_gpu(shape, rounds, console)}))


if __name__ == "__main__":
    main()
