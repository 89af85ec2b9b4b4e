"""The reference, run once: its outputs, what its modules and its attention function pass on, and gradients at the stream."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file

from interp_jax.models.config import TransformerConfig
from third_party.huggingface.parity.batches import Batch, projection
from third_party.huggingface.parity.cases import Case
from third_party.huggingface.parity.lifting import modelling
from third_party.huggingface.parity.ours import GRADIENT, STREAM, Run
from third_party.huggingface.parity.places import Place, places
from third_party.huggingface.parity.weights import random_tensor


def write_model(case: Case, directory: Path, seed: int = 0) -> None:
    """Lets the reference write a model of this configuration, and puts random weights in the place of its own."""
    config = getattr(transformers, case.config)(**case.fields)
    getattr(transformers, case.architecture)(config).save_pretrained(directory)
    file = directory / "model.safetensors"
    with safe_open(file, "np") as tensors:
        shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}
    gemma = case.architecture.startswith("Gemma")
    weights = {name: random_tensor(name, shape, seed, gemma) for name, shape in shapes.items()}
    save_file(weights, file, {"format": "pt"})


def read_model(case: Case, directory: Path, dtype: torch.dtype) -> Any:
    """The reference's model, ready to be run; under `lifted` where it is to be lifted."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    load = getattr(transformers, case.architecture).from_pretrained
    return load(directory, dtype=dtype, attn_implementation="eager").eval()


def arguments(batch: Batch, cfg: TransformerConfig) -> dict[str, Any]:
    """The reference's arguments for the same rows."""
    given: dict[str, Any] = {"input_ids": torch.tensor(batch.tokens)}
    if batch.positions is not None:
        given["attention_mask"] = torch.tensor(batch.real.astype(int))
        given["position_ids"] = torch.tensor(np.maximum(batch.positions, 0))
    return given | ({"token_type_ids": torch.tensor(batch.types)} if cfg.d_types else {})


def output_of(result: Any) -> torch.Tensor:
    """Logits, or the stream of a model without."""
    return result.logits if "logits" in result else result.last_hidden_state


def forward(model: Any, batch: Batch, cfg: TransformerConfig) -> np.ndarray:
    """The output alone."""
    with torch.no_grad():
        return output_of(model(**arguments(batch, cfg))).to(torch.float64).numpy()


def run(model: Any, case: Case, batch: Batch, cfg: TransformerConfig) -> Run:
    """Everything."""
    found = places(case.architecture, cfg)
    seen: dict[str, list[torch.Tensor]] = {}
    with hooks(model, found, cfg, seen), attention_seen(case, seen):
        output = output_of(model(**arguments(batch, cfg)))
    for site in STREAM:
        for x in seen[site]:
            x.retain_grad()
    weight = torch.tensor(projection(tuple(output.shape)), dtype=output.dtype)
    (output * weight * torch.tensor(batch.real)[..., None]).sum().backward()
    sites = {name: stacked(values, name) for name, values in seen.items()}
    for name, place in found.items():
        if place.norm:
            sites[name] = quotient(model, place, sites[name], cfg)
    for site in STREAM:
        sites[GRADIENT + site] = np.stack([x.grad.numpy() for x in seen[site]])
    return Run(output.detach().numpy(), sites)


def stacked(values: list[torch.Tensor], name: str) -> np.ndarray:
    """Layers stacked, where there are layers."""
    arrays = [value.detach().numpy() for value in values]
    return np.stack(arrays) if name.startswith("blocks.") else arrays[0]


def quotient(model: Any, place: Place, out: np.ndarray, cfg: TransformerConfig) -> np.ndarray:
    """A norm's output before its weight and bias, which are undone."""
    if "{l}" not in place.module:
        return undone(model.get_submodule(place.module), out, cfg)
    modules = [model.get_submodule(place.module.format(l=layer)) for layer in range(cfg.n_layers)]
    return np.stack([undone(module, x, cfg) for module, x in zip(modules, out, strict=True)])


def undone(norm: Any, out: np.ndarray, cfg: TransformerConfig) -> np.ndarray:
    """The quotient of one norm."""
    bias = norm.bias.detach().numpy() if cfg.norm == "layer" else 0.0
    return (out - bias) / (norm.weight.detach().numpy() + cfg.norm_offset)


@contextlib.contextmanager
def hooks(
    model: Any, found: dict[str, Place], cfg: TransformerConfig, seen: dict[str, list[torch.Tensor]]
) -> Iterator[None]:
    """Fills `seen` with what passes by the places, layer after layer."""
    handles = []
    for site, place in found.items():
        for layer in range(cfg.n_layers) if "{l}" in place.module else [0]:
            module = model.get_submodule(place.module.format(l=layer))
            handles.append(hook(module, site, place, cfg, seen))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def hook(module: Any, site: str, place: Place, cfg: TransformerConfig, seen: dict[str, list[torch.Tensor]]) -> Any:
    """Hangs one hook."""

    def keep(x: Any) -> None:
        x = x[0] if isinstance(x, tuple) else x
        seen.setdefault(site, []).append(place.cut(x, cfg))

    if place.side == "out":
        return module.register_forward_hook(lambda module, args, out: keep(out))
    return module.register_forward_pre_hook(
        lambda module, args, kwargs: keep(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )


@contextlib.contextmanager
def attention_seen(case: Case, seen: dict[str, list[torch.Tensor]]) -> Iterator[None]:
    """Fills `seen` with what the attention function gets and gives, and with what its softmax reads, less the mask."""
    module = modelling(case.module)
    attend, softmax = module.eager_attention_forward, torch.nn.functional.softmax

    def watched(layer: Any, query: Any, key: Any, value: Any, mask: Any, *args: Any, **kwargs: Any) -> Any:
        def scores(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            bare = x if mask is None else torch.where(mask == 0, x, torch.nan)
            seen.setdefault("blocks.attn.scores", []).append(bare)
            return softmax(x, *args, **kwargs)

        with mock.patch.object(torch.nn.functional, "softmax", scores):
            out, pattern = attend(layer, query, key, value, mask, *args, **kwargs)
        for site, x in {
            "rot_q": query.transpose(1, 2),
            "rot_k": key.transpose(1, 2),
            "z": out,
            "pattern": pattern,
        }.items():
            seen.setdefault(f"blocks.attn.{site}", []).append(x)
        return out, pattern

    with mock.patch.object(module, "eager_attention_forward", watched):
        yield
