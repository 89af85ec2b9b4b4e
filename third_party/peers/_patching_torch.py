"""The worker of `patching.py`: TransformerLens, 3.x or 4.x, whichever this Python holds; it imports nothing else from here.

    python -m third_party.peers._patching_torch make DIRECTORY '{"n_layer": 12, ...}'    random weights of GPT-2's shape
    python -m third_party.peers._patching_torch serve DIRECTORY cpu

`serve` answers requests, one line of JSON each. A request names a grid, a batch (DIRECTORY/batch_8.npz with clean, corrupted
[B P], answers, others [B]) and, unless all are wanted, cells. The answer has the mean metric of each cell, the seconds per
cell, and the seconds of what is done once for the whole grid: caches, and for paths one run per sender.

The grids are `transformer_lens.patching`'s own functions, as they are. Neither version freezes what lies beside a path, so
3.x patches paths by hooks, as its users write it: per sender a run with every head and MLP held at its corrupted value but the
sender, in which the receivers' inputs are recorded; per pair a run with the receiver's input replaced. 4.x has
`get_act_patch_direct_path`, which does the same per pair, but not the receivers' direct effects on the logits.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import numpy as np
import pandas as pd
import torch
import transformer_lens
from transformer_lens import patching
from transformers import GPT2Config, GPT2LMHeadModel

GRIDS = {
    "residual pre": (patching.get_act_patch_resid_pre, "resid_pre"),
    "head outputs": (patching.get_act_patch_attn_head_out_all_pos, "z"),
    "head q": (patching.get_act_patch_attn_head_q_by_pos, "q"),
    "head k": (patching.get_act_patch_attn_head_k_by_pos, "k"),
    "head v": (patching.get_act_patch_attn_head_v_by_pos, "v"),
}  # and "paths to q", "direct paths to q", of k and v too
Cells = list[list[int]]


class Answer(NamedTuple):
    """Mean metric of each cell, seconds per cell, and seconds of what the whole grid shares."""

    values: list[float]
    per_cell: float
    shared: float


class Task(NamedTuple):
    """A model and a pair of batches of tokens."""

    model: Any
    clean: torch.Tensor
    corrupted: torch.Tensor
    metric: Callable[[torch.Tensor], torch.Tensor]


def make(directory: str, shape: str) -> None:
    """Write random weights, large enough that attention is not flat and patches of it matter."""
    torch.manual_seed(0)
    config = GPT2Config(**json.loads(shape))
    config.initializer_range = 1.4 / config.n_embd**0.5
    GPT2LMHeadModel(config).save_pretrained(directory)


def load(directory: str, device: str) -> Any:
    """The model of this version, unprocessed: nothing folded, nothing centred."""
    if hasattr(transformer_lens, "TransformerBridge"):
        return transformer_lens.TransformerBridge.boot_transformers(directory, device=device).eval()
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    like = GPT2LMHeadModel.from_pretrained(directory)
    of = like.config
    config = HookedTransformerConfig(
        n_layers=of.n_layer, d_model=of.n_embd, n_heads=of.n_head, d_head=of.n_embd // of.n_head, d_mlp=4 * of.n_embd,
        d_vocab=of.vocab_size, n_ctx=of.n_positions, act_fn="gelu_new", normalization_type="LN", eps=1e-5, device=device,
    )  # fmt: skip
    model = HookedTransformer(config).eval()
    weights = convert_gpt2_weights(like, config) | {"unembed.b_U": torch.zeros(of.vocab_size)}
    model.load_state_dict({name: w.clone() for name, w in weights.items()}, strict=False)
    return model


def task(model: Any, directory: str, batch: int) -> Task:
    """The tokens of one batch size, and the logit difference as a function of logits [B P V]."""
    with np.load(Path(directory, f"batch_{batch}.npz")) as file:
        names = ("clean", "corrupted", "answers", "others")
        clean, corrupted, answers, others = (torch.tensor(file[name], device=model.cfg.device) for name in names)
    rows = torch.arange(batch, device=model.cfg.device)

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return (logits[rows, -1, answers] - logits[rows, -1, others]).mean()

    return Task(model, clean, corrupted, metric)


def grid(name: str, of: Task, cells: Cells | None) -> Answer:
    """One of the library's own grids: whole, or some of its cells."""
    function, activation = GRIDS[name]
    started = time.perf_counter()
    _, cache = of.model.run_with_cache(of.clean)
    cached = time.perf_counter()
    arguments = (of.model, of.corrupted, cache, of.metric)
    if cells is None:
        found = function(*arguments)
    else:
        frame = pd.DataFrame(cells, columns=["layer", "pos", "head"][: len(cells[0])])
        setter = function.keywords["patch_setter"]
        found = patching.generic_activation_patch(
            *arguments, patch_setter=setter, activation_name=activation, index_df=frame
        )
    seconds = time.perf_counter() - cached
    return Answer(found.flatten().tolist(), seconds / found.numel(), cached - started)


def offered_paths(component: str, of: Task, cells: Cells) -> Answer:
    """4.x: all receivers of each sender at once; cells are (sender's layer, head, receiver's layer, head)."""
    started = time.perf_counter()
    caches = [of.model.run_with_cache(tokens)[1] for tokens in (of.clean, of.corrupted)]
    cached = time.perf_counter()
    senders = sorted({(layer, head) for layer, head, _, _ in cells})
    found = {
        (layer, head): patching.get_act_patch_direct_path(
            of.model, of.corrupted, *caches, of.metric, layer, head, component=component, verbose=False
        )
        for layer, head in senders
    }
    seconds = time.perf_counter() - cached
    n_runs = sum((of.model.cfg.n_layers - 1 - layer) * of.model.cfg.n_heads for layer, _ in senders)
    return Answer([found[i, h][j, g].item() for i, h, j, g in cells], seconds / n_runs, cached - started)


class Paths:
    """Path patching by hooks: what is held at its corrupted value, and what is recorded."""

    def __init__(self, of: Task):
        self.of, self.n_layers = of, of.model.cfg.n_layers
        self.clean, self.corrupted = (of.model.run_with_cache(tokens)[1] for tokens in (of.clean, of.corrupted))

    def hold(self, first: int) -> list[tuple[str, Callable[..., torch.Tensor]]]:
        """Hooks that hold every head and MLP from layer `first` on."""
        names = [f"blocks.{i}.{site}" for i in range(first, self.n_layers) for site in ("attn.hook_z", "hook_mlp_out")]
        return [(name, lambda _, hook, name=name: self.corrupted[name]) for name in names]

    def inputs(self, layer: int, head: int, component: str) -> dict[int, torch.Tensor]:
        """Per later layer, the receivers' q, k or v [B P H E] with this sender clean and all else held."""
        seen, z = {}, f"blocks.{layer}.attn.hook_z"

        def send(_: torch.Tensor, hook: Any) -> torch.Tensor:
            held = self.corrupted[z].clone()
            held[:, :, head] = self.clean[z][:, :, head]
            return held

        def see(x: torch.Tensor, hook: Any, later: int) -> None:
            seen[later] = x

        later = range(layer + 1, self.n_layers)
        record = [(f"blocks.{i}.attn.hook_{component}", partial(see, later=i)) for i in later]
        hooks = [(name, send if name == z else f) for name, f in self.hold(layer)]
        self.of.model.run_with_hooks(self.of.corrupted, fwd_hooks=hooks + record)
        return seen

    def outcome(self, inputs: torch.Tensor, layer: int, head: int, component: str, direct: bool) -> float:
        """The metric with one receiver's input replaced; `direct`: with all else held, so that only it reaches the logits."""
        z = f"blocks.{layer}.attn.hook_z"

        def receive(x: torch.Tensor, hook: Any) -> torch.Tensor:
            x[:, :, head] = inputs[:, :, head]
            return x

        def let_through(x: torch.Tensor, hook: Any) -> torch.Tensor:
            held = self.corrupted[z].clone()
            held[:, :, head] = x[:, :, head]
            return held

        held = [(name, let_through if name == z else f) for name, f in self.hold(layer)] if direct else []
        hooks = [(f"blocks.{layer}.attn.hook_{component}", receive), *held]
        return self.of.metric(self.of.model.run_with_hooks(self.of.corrupted, fwd_hooks=hooks)).item()


def hooked_paths(component: str, of: Task, cells: Cells, direct: bool) -> Answer:
    """Paths by hooks, for cells (sender's layer, head, receiver's layer, head)."""
    started = time.perf_counter()
    paths = Paths(of)
    cached = time.perf_counter()
    senders = sorted({(layer, head) for layer, head, _, _ in cells})
    inputs = {sender: paths.inputs(*sender, component) for sender in senders}
    sent = time.perf_counter()
    values = [paths.outcome(inputs[i, h][j], j, g, component, direct) for i, h, j, g in cells]
    ended = time.perf_counter()
    n_senders = (paths.n_layers - 1) * of.model.cfg.n_heads
    return Answer(values, (ended - sent) / len(cells), cached - started + (sent - cached) / len(senders) * n_senders)


def answer(name: str, of: Task, cells: Cells | None) -> Answer:
    """The grid of this name."""
    if name in GRIDS:
        return grid(name, of, cells)
    component = name[-1]
    if name.startswith("paths") and hasattr(patching, "get_act_patch_direct_path"):
        return offered_paths(component, of, cells)
    return hooked_paths(component, of, cells, direct=name.startswith("direct"))


def serve(directory: str, device: str) -> None:
    """Answer until the requests end."""
    with contextlib.redirect_stdout(sys.stderr):
        model = load(directory, device)
    print(json.dumps({"version": version("transformer-lens")}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr), torch.no_grad():
            found = answer(request["grid"], task(model, directory, request["batch"]), request["cells"])
        print(json.dumps(found._asdict()), flush=True)


if __name__ == "__main__":
    {"make": make, "serve": serve}[sys.argv[1]](*sys.argv[2:])
