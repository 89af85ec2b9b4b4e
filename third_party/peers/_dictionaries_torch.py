"""What SAELens and dictionary_learning make of the same dictionary and activations: an update, each by its own trainer."""

import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

SAELENS, SAELENS_SPARSE, LEARNING = "SAELens", "SAELens, sparse", "dictionary_learning"
RATE, STEPS = 3e-4, 1_000_000


class Shape(NamedTuple):
    """Of an update: widths, features, examples, active features; first ends of nested prefixes."""

    d_in: int
    n_features: int
    batch: int
    k: int
    prefixes: tuple[int, ...]


class Peer(NamedTuple):
    """One project's dictionary: its loss on the activations as it stands, and an update."""

    loss: Callable[[], float]
    update: Callable[[], Any]


def peers(kind: str, shape: Shape, params: dict[str, np.ndarray], x: np.ndarray) -> dict[str, Peer]:
    """Those that have a kind, with the same parameters; in whichever configurations there are."""
    found = {SAELENS: saelens(kind, shape, params, x, sparse=False)}
    if kind in ("topk", "batch_topk", "matryoshka"):
        found[SAELENS_SPARSE] = saelens(kind, shape, params, x, sparse=True)
    return found | {LEARNING: dictionary_learning(kind, shape, params, x)}


def saelens(kind: str, shape: Shape, params: dict[str, np.ndarray], x: np.ndarray, sparse: bool) -> Peer:
    """By its trainer's own step; sparse is with sparse activations, which are not rescaled by the decoder's rows."""
    import sae_lens
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.sae import TrainStepInput
    from sae_lens.training.sae_trainer import SAETrainer

    name = {
        "standard": "Standard", "gated": "Gated", "topk": "TopK", "batch_topk": "BatchTopK",
        "matryoshka": "MatryoshkaBatchTopK", "jumprelu": "JumpReLU",
    }[kind]  # fmt: skip
    own: dict[str, Any] = {
        "topk": {"k": shape.k},
        "batch_topk": {"k": float(shape.k)},
        "matryoshka": {"k": float(shape.k), "matryoshka_widths": list(shape.prefixes)},
    }.get(kind, {})
    if kind in ("topk", "batch_topk", "matryoshka"):
        own |= {"use_sparse_activations": sparse, "rescale_acts_by_decoder_norm": not sparse}
    cfg = getattr(sae_lens, f"{name}TrainingSAEConfig")(d_in=shape.d_in, d_sae=shape.n_features, **own)
    sae = getattr(sae_lens, f"{name}TrainingSAE")(cfg)
    weights = {"W_enc": params["W_enc"].T, "W_dec": params["W_dec"], "b_dec": params["b_dec"]}
    weights |= {"b_gate": params["b_enc"]} if kind == "gated" else {"b_enc": params["b_enc"]}
    with torch.no_grad():
        for key, value in weights.items():
            getattr(sae, key).copy_(torch.tensor(np.ascontiguousarray(value)))
    given = torch.tensor(x)
    trainer = SAETrainer(
        SAETrainerConfig(
            STEPS * shape.batch, shape.batch, lr=RATE, lr_end=RATE, logger=LoggingConfig(log_to_wandb=False)
        ),
        sae,
        iter(()),
    )

    def loss() -> float:
        step = TrainStepInput(given, trainer.get_coefficients(), trainer.dead_neurons, 0, False)
        with torch.no_grad():
            return float(sae.training_forward_pass(step).loss)

    return Peer(loss, lambda: trainer.step(given))


def dictionary_learning(kind: str, shape: Shape, params: dict[str, np.ndarray], x: np.ndarray) -> Peer:
    """By its trainer's update, as if past its first step."""
    module, name = TRAINERS[kind]
    package = bare_package("dictionary_learning")
    own: dict[str, Any] = {"lr": RATE, "steps": STEPS, "layer": 0, "lm_name": "none", "device": "cpu"}
    own |= {"activation_dim": shape.d_in, "dict_size": shape.n_features}
    if kind in ("topk", "batch_topk", "matryoshka"):
        own |= {"k": shape.k, "threshold_start_step": 0}
    else:
        own |= {"sparsity_warmup_steps": None}
    if kind in ("standard", "gated"):
        own |= {"l1_penalty": 1.0}
    if kind == "matryoshka":
        groups = np.diff([0, *shape.prefixes])
        own |= {"group_fractions": [float(n) / shape.n_features for n in groups], "group_weights": [1.0] * len(groups)}
    if kind == "jumprelu":
        own |= {"target_l0": float(shape.k), "bandwidth": 0.05}
    trainer = getattr(importlib.import_module(f"{package}.trainers.{module}"), name)(**own)
    _fill(trainer.ae, params)
    given = torch.tensor(x)
    taken = iter(range(1, STEPS))

    def loss() -> float:
        with torch.no_grad():
            return float(trainer.loss(given, step=1))

    return Peer(loss, lambda: trainer.update(next(taken), given))


TRAINERS = {
    "standard": ("standard", "StandardTrainerAprilUpdate"),
    "gated": ("gdm", "GatedSAETrainer"),
    "topk": ("top_k", "TopKTrainer"),
    "batch_topk": ("batch_top_k", "BatchTopKTrainer"),
    "matryoshka": ("matryoshka_batch_top_k", "MatryoshkaBatchTopKTrainer"),
    "jumprelu": ("jumprelu", "JumpReluTrainer"),
}


def bare_package(name: str) -> str:
    """A package without what its `__init__` imports, which here are models to harvest from: only its modules are used."""
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"no package {name}: it is listed in third_party/peers/requirements-alone.txt")
        bare = types.ModuleType(name)
        bare.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = bare
    return name


def _fill(ae: torch.nn.Module, params: dict[str, np.ndarray]) -> None:
    """Give a dictionary these parameters, by whichever names it has for them; weights lie as they lie."""
    names = {
        "encoder.weight": params["W_enc"], "encoder.bias": params["b_enc"], "decoder.weight": params["W_dec"].T,
        "W_enc": params["W_enc"].T, "W_dec": params["W_dec"], "b_enc": params["b_enc"],
        "b_dec": params["b_dec"], "bias": params["b_dec"], "decoder_bias": params["b_dec"],
        "gate_bias": params["b_enc"], "mag_bias": params["b_enc"], "r_mag": 0 * params["b_enc"],
        "threshold": np.full(len(params["b_enc"]), 0.01, np.float32),
    }  # fmt: skip
    with torch.no_grad():
        for name, parameter in ae.named_parameters():
            parameter.copy_(torch.tensor(np.ascontiguousarray(names[name])))
