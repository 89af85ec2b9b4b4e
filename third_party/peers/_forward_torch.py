"""GPT-2's shape in transformers and in TransformerLens, with the same random weights, for `forward.py`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from interp_jax.models.transformer import TransformerConfig

logging.disable_progress_bar()

HOOKS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")


class Shape(NamedTuple):
    """Of a GPT-2."""

    n_layers: int
    d_model: int
    n_heads: int
    d_vocab: int
    n_context: int


class Model(NamedTuple):
    """A peer's model: its module, its tasks by name, and what it computed, to be compared."""

    module: Any
    tasks: dict[str, Callable[[], Any]]
    compare: Callable[[], dict[str, np.ndarray]]

    def run(self, task: str) -> Any:
        """One task."""
        return self.tasks[task]()


def our_config(shape: Shape) -> TransformerConfig:
    """The member of our family with this shape."""
    return TransformerConfig(
        n_layers=shape.n_layers, d_model=shape.d_model, n_heads=shape.n_heads, d_head=shape.d_model // shape.n_heads,
        d_mlp=4 * shape.d_model, d_vocab=shape.d_vocab, n_context=shape.n_context, positions="learned", tied=True,
        biases="layers",
    )  # fmt: skip


def hugging_face(shape: Shape, tokens: np.ndarray, device: str = "cpu", dtype: str = "float32") -> Model:
    """Eager attention, as every hook-based tool needs it."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=shape.n_layers, n_embd=shape.d_model, n_head=shape.n_heads, vocab_size=shape.d_vocab,
        n_positions=shape.n_context, attn_implementation="eager",
    )  # fmt: skip
    module = GPT2LMHeadModel(config).eval().to(device, getattr(torch, dtype))
    rows = torch.tensor(tokens, device=device)

    @torch.no_grad()
    def forward(**keep: bool) -> Any:
        return module(rows, use_cache=False, **keep)

    def backward() -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        mean_loss(module(rows, use_cache=False).logits, rows).backward()
        return module.transformer.wte.weight.grad

    def compare() -> dict[str, np.ndarray]:
        seen = forward(output_hidden_states=True)
        streams = np.stack([s.numpy() for s in seen.hidden_states[:-1]])  # the last one is past the final norm
        return {"logits": seen.logits.numpy(), "blocks.resid_pre": streams, "gradient of W_E": backward().numpy()}

    tasks = (forward, lambda: forward(output_hidden_states=True), backward)
    return Model(
        module, dict(zip(("forward", "forward, recorded", "forward and backward"), tasks, strict=True)), compare
    )


def has_gpu() -> bool:
    """Whether PyTorch can use a GPU here."""
    return torch.cuda.is_available()


def finish() -> None:
    """Wait for what a GPU was told to do."""
    torch.cuda.synchronize()


def transformer_lens(shape: Shape, tokens: np.ndarray, like: Model) -> Model:
    """HookedTransformer with the weights of `like`, unprocessed."""
    config = HookedTransformerConfig(
        n_layers=shape.n_layers, d_model=shape.d_model, n_heads=shape.n_heads, d_head=shape.d_model // shape.n_heads,
        d_mlp=4 * shape.d_model, d_vocab=shape.d_vocab, n_ctx=shape.n_context, act_fn="gelu_new",
        normalization_type="LN", eps=1e-5, device="cpu",
    )  # fmt: skip
    module, rows = HookedTransformer(config).eval(), torch.tensor(tokens)
    weights = convert_gpt2_weights(like.module, config)
    weights["unembed.b_U"] = torch.zeros(shape.d_vocab)
    module.load_state_dict({name: w.clone() for name, w in weights.items()}, strict=False)

    @torch.no_grad()
    def forward() -> Any:
        return module(rows)

    @torch.no_grad()
    def recorded() -> Any:
        return module.run_with_cache(rows, names_filter=lambda name: name.endswith(HOOKS))

    def backward() -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        mean_loss(module(rows), rows).backward()
        return module.embed.W_E.grad + module.unembed.W_U.grad.T

    def compare() -> dict[str, np.ndarray]:
        logits, cache = recorded()
        streams = {
            f"blocks.{hook.removeprefix('hook_')}": np.stack(
                [cache[f"blocks.{i}.{hook}"].numpy() for i in range(shape.n_layers)]
            )
            for hook in HOOKS
        }
        return {"logits": logits.numpy(), **streams, "gradient of W_E + W_U": backward().numpy()}

    tasks = (forward, recorded, backward)
    return Model(
        module, dict(zip(("forward", "forward, recorded", "forward and backward"), tasks, strict=True)), compare
    )


def mean_loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss, in nats."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
