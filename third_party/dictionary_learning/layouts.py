"""What becomes of each class' tensors.

Classes made of linear layers have the encoder [F D], as it lies here, and the decoder [D F]; those of bare parameters the
encoder [D F], and the decoder [F D].
"""

from pathlib import Path
from typing import Any

import numpy as np

from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError, nearest
from third_party.single_file_io import Tensors, check_tensors

LAYERS = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
BARE = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
GATED = {"decoder_bias": "b_dec", "gate_bias": "b_enc", "mag_bias": "b_mag", "r_mag": "r_mag"}
CLASSES: dict[str, tuple[str, dict[str, str]]] = {  # kind, and names of its tensors there and here
    "AutoEncoder": ("standard", LAYERS | {"bias": "b_dec"}),
    "AutoEncoderNew": ("standard", LAYERS | {"decoder.bias": "b_dec"}),
    "GatedAutoEncoder": ("gated", {"encoder.weight": "W_enc", "decoder.weight": "W_dec"} | GATED),
    "AutoEncoderTopK": ("topk", LAYERS | {"b_dec": "b_dec"}),
    "BatchTopKSAE": ("batch_topk", LAYERS | {"b_dec": "b_dec", "threshold": "threshold"}),
    "MatryoshkaBatchTopKSAE": ("matryoshka", BARE | {"threshold": "threshold"}),
    "JumpReluAutoEncoder": ("jumprelu", BARE | {"threshold": "threshold"}),
}
NOT_CENTRED = ("JumpReluAutoEncoder", "AutoEncoderNew")  # whose bias is not taken off what is read
TRANSPOSED = {"decoder.weight", "W_enc"}
UNSET = -1.0  # a threshold that is not used


def class_of(tensors: Tensors, file: Path) -> str:
    """The class that has these tensors.

    Raises:
      InputError: none has, or two that cannot be told apart.
    """
    if "gate_bias" in tensors:
        return "GatedAutoEncoder"
    if "group_sizes" in tensors:
        return "MatryoshkaBatchTopKSAE"
    if "bias" in tensors:
        return "AutoEncoder"
    if "decoder.bias" in tensors:
        return "AutoEncoderNew"
    if "W_enc" in tensors and "threshold" in tensors:
        return "JumpReluAutoEncoder"
    if "k" in tensors:
        raise InputError(f"{file}: TopK or BatchTopK? config.json beside it has to name trainer.dict_class")
    raise InputError(f"{file}: no class has tensors {', '.join(sorted(tensors))}")


def dictionary_of(kind: str, tensors: Tensors, file: Path, trainer: dict[str, Any]) -> Dictionary:
    """The dictionary of a class with these tensors.

    Raises:
      InputError: a tensor is missing, unknown or of another shape.
    """
    ours, names = CLASSES[kind]
    encoder = "encoder.weight" if "encoder.weight" in names else "W_enc"
    if encoder not in tensors or tensors[encoder].ndim != 2:
        raise InputError(f"{file}: no tensor {encoder!r} with two axes; {nearest(encoder, tensors)}")
    F, D = tensors[encoder].shape[:: -1 if encoder in TRANSPOSED else 1]
    wanted = {name: shape_of(name, here, D, F, kind) for name, here in names.items()}
    check_tensors(file, tensors, wanted, ("k", "threshold", "group_sizes"))
    k = int(tensors.get("k", trainer.get("k", 1))) if ours in ("topk", "batch_topk", "matryoshka") else 1
    ends = np.cumsum(tensors["group_sizes"]) / F if ours == "matryoshka" and "group_sizes" in tensors else [1.0]
    cfg = Dictionary(
        kind=ours,
        d_in=D,
        n_features=F,
        most=k,
        k=k,
        prefixes=tuple(map(float, ends)),
        centred=kind not in NOT_CENTRED,
        thresholds="linear" if ours == "jumprelu" else "log",
    )
    cfg.check()
    return cfg


def shape_of(name: str, here: str, D: int, F: int, kind: str) -> tuple[int, ...]:
    """The shape of a tensor, there."""
    if here in ("W_enc", "W_dec"):
        return (D, F) if name in TRANSPOSED else (F, D)
    if here == "threshold":
        return (F,) if kind == "JumpReluAutoEncoder" else ()
    return (D,) if here == "b_dec" else (F,)


def params_of(kind: str, tensors: Tensors, cfg: Dictionary) -> Tensors:
    """The library's parameters."""
    found = CLASSES[kind][1]
    return {
        here: np.ascontiguousarray(tensors[name].T) if name in TRANSPOSED else tensors[name]
        for name, here in found.items()
    }


def class_named(cfg: Dictionary) -> str:
    """The class of a dictionary.

    Raises:
      InputError: there is none.
    """
    own = "standard" if cfg.kind == "p_anneal" else cfg.kind
    found = [
        name for name, (kind, _) in CLASSES.items() if kind == own and bool(cfg.centred) == (name not in NOT_CENTRED)
    ]
    if not found or cfg.d_out or cfg.pieces > 1:
        raise InputError(
            f"dictionary_learning has no dictionary of kind {cfg.kind!r} with d_out = {cfg.d_out}, pieces = {cfg.pieces}, "
            f"centred = {cfg.centred}; it has autoencoders: {', '.join(dict(CLASSES.values()))}, all centred but for "
            "jumprelu, and standard either way"
        )
    return found[0]


def tensors_of(kind: str, params: Tensors, cfg: Dictionary) -> Tensors:
    """The tensors of the features in use."""
    used = int(cfg.width) or cfg.n_features
    rows = {name: x if name == "b_dec" or not x.ndim else x[:used] for name, x in params.items()}
    if cfg.kind == "jumprelu" and cfg.thresholds == "log":
        rows["threshold"] = np.exp(rows["log_threshold"])
    found = {name: rows[here].T if name in TRANSPOSED else rows[here] for name, here in CLASSES[kind][1].items()}
    if cfg.is_by_k:
        found |= {"k": np.asarray(int(cfg.k), np.int32), "threshold": rows.get("threshold", np.float32(UNSET))}
    if kind == "MatryoshkaBatchTopKSAE":
        ends = [round(share * cfg.n_features) for share in cfg.prefixes]
        sizes = np.diff([0, *(min(end, used) for end in ends)])
        found["group_sizes"] = sizes[sizes > 0].astype(np.int64)
    return found
