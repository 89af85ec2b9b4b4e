"""What becomes of SAELens' fields and tensors, and what of the library's.

Weights of the encoder lie [D F] there and [F D] here. Where TopK features are scaled by the decoder's rows, the scale is
multiplied into the encoder and taken off the decoder: features and reconstructions are the same numbers.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.parameters import Params
from interp_jax.errors import InputError, nearest

KINDS = {
    "standard": "standard",
    "gated": "gated",
    "topk": "topk",
    "abstopk": "abs_topk",
    "jumprelu": "jumprelu",
    "matching_pursuit": "matching_pursuit",
    "transcoder": "standard",
    "skip_transcoder": "standard",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
WRITTEN = {
    "standard": "standard",
    "p_anneal": "standard",
    "gated": "gated",
    "topk": "topk",
    "abs_topk": "abstopk",
    "jumprelu": "jumprelu",
    "batch_topk": "jumprelu",
    "matryoshka": "jumprelu",
    "matching_pursuit": "matching_pursuit",
}
RENAMED = {"activation_fn_str": "activation_fn", "hook_point": "hook_name", "hook_point_head_index": "hook_head_index"}
FIELDS = (
    "architecture", "d_in", "d_sae", "d_out", "dtype", "device", "metadata", "reshape_activations", "apply_b_dec_to_input",
    "normalize_activations", "k", "rescale_acts_by_decoder_norm", "activation_fn", "activation_fn_kwargs",
    "finetuning_scaling_factor", "max_iterations", "residual_threshold", "stop_on_duplicate_support",
)  # fmt: skip
PURSUIT = {"residual_threshold": 0.0, "stop_on_duplicate_support": False}  # k steps, whatever is left
FIRST_VERSION = 6  # whose fields are all the dictionary's own


class Extra(NamedTuple):
    """What a config says besides: its architecture, and whether features are scaled by the decoder's rows."""

    architecture: str
    scaled: bool


def dictionary_of(config: Mapping[str, Any], where: str) -> tuple[Dictionary, Extra]:
    """The dictionary that a config describes.

    Raises:
      InputError: it says what is not handled, or lacks a field.
    """
    fields = {RENAMED.get(name, name): value for name, value in config.items()}
    if is_new(fields) and (unknown := [name for name in fields if name not in FIELDS]):
        raise InputError(f"{where}: field {unknown[0]!r} is not handled; {nearest(unknown[0], FIELDS)}")
    architecture, k = architecture_of(fields, where)
    for name, allowed in (
        ("normalize_activations", ("none", None, False, "expected_average_only_in")),
        ("finetuning_scaling_factor", (None, False)),
    ):
        if fields.get(name) not in allowed:
            raise InputError(
                f"{where}: {name} = {fields[name]!r} is not handled; it has to be {allowed[0]!r} or absent"
            )
    if missing := [name for name in ("d_in", "d_sae") if name not in fields]:
        raise InputError(f"{where}: no field {missing[0]!r}")
    d_out = int(fields.get("d_out", fields["d_in"])) if "transcoder" in architecture else 0
    cfg = Dictionary(
        kind=KINDS[architecture],
        d_in=int(fields["d_in"]),
        d_out=d_out,
        n_features=int(fields["d_sae"]),
        most=k or 1,
        k=k or 1,
        skip="skip" in architecture,
        centred=bool(fields.get("apply_b_dec_to_input", not d_out)),
        thresholds="linear" if KINDS[architecture] == "jumprelu" else "log",
    )
    cfg.check()
    return cfg, Extra(architecture, bool(fields.get("rescale_acts_by_decoder_norm", False)))


def architecture_of(fields: Mapping[str, Any], where: str) -> tuple[str, int]:
    """Its name, as version 6 has it, and k; 0 where it has none."""
    found, k = fields.get("architecture", "standard"), fields.get("k")
    activation = fields.get("activation_fn", "relu")
    if found == "standard" and activation == "topk":
        found, k = "topk", (fields.get("activation_fn_kwargs") or {}).get("k")
    elif activation not in ("relu", "topk", None):
        raise InputError(f"{where}: activation_fn = {activation!r} is not handled; known: relu, topk")
    if found not in KINDS:
        raise InputError(f"{where}: architecture = {found!r} is not handled; {nearest(str(found), KINDS)}")
    if found == "matching_pursuit":
        return found, steps_of(fields, where)
    if found not in ("topk", "abstopk"):
        return found, 0
    if type(k) is not int or k < 1:
        raise InputError(f"{where}: k = {k!r} has to be a number of features")
    return found, k


def steps_of(fields: Mapping[str, Any], where: str) -> int:
    """The steps that a matching pursuit takes, of which none is left out; the width where none are told."""
    for name, value in PURSUIT.items():
        if fields.get(name, "absent") != value:
            raise InputError(
                f"{where}: {name} = {fields.get(name)!r} is not handled; it has to be {value!r}, so that every example takes "
                "max_iterations steps"
            )
    if fields.get("apply_b_dec_to_input", True) is not True:
        raise InputError(f"{where}: apply_b_dec_to_input = False is not handled of matching pursuit")
    k = fields.get("max_iterations")
    k = fields.get("d_in") if k is None else k
    if type(k) is not int or k < 1:
        raise InputError(f"{where}: max_iterations = {k!r} has to be a number of steps")
    return k


def is_new(fields: Mapping[str, Any]) -> bool:
    """Whether a config is of version 6 or later, which keeps what is not the dictionary's under `metadata`."""
    version = (fields.get("metadata") or {}).get("sae_lens_version", "0")
    return str(version).partition(".")[0].isdigit() and int(str(version).partition(".")[0]) >= FIRST_VERSION


def shapes_of(cfg: Dictionary, architecture: str) -> dict[str, tuple[int, ...]]:
    """The tensors that a file has."""
    D, F, width = cfg.d_in, cfg.n_features, cfg.width_out
    found: dict[str, tuple[int, ...]] = {} if cfg.kind == "matching_pursuit" else {"W_enc": (D, F)}
    found |= {"W_dec": (F, width), "b_dec": (width,)}
    if cfg.kind == "matching_pursuit":
        return found
    if architecture == "gated":
        return found | {"b_gate": (F,), "b_mag": (F,), "r_mag": (F,)}
    found["b_enc"] = (F,)
    if cfg.kind == "jumprelu":
        found["threshold"] = (F,)
    return found | ({"W_skip": (width, D)} if cfg.skip else {})


def params_of(tensors: Mapping[str, np.ndarray], cfg: Dictionary, extra: Extra, where: str) -> dict[str, np.ndarray]:
    """The library's parameters."""
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        if name in tensors and not np.all(tensors[name] == 1):
            raise InputError(f"{where}: tensor {name!r} is not 1, and is not handled")
    found = {name: tensors[name] for name in tensors if "scaling_factor" not in name}
    if cfg.kind == "matching_pursuit":
        return found
    found["W_enc"] = np.ascontiguousarray(found["W_enc"].T)
    if cfg.kind == "gated":
        found["b_enc"] = found.pop("b_gate")
    if extra.scaled:
        lengths = np.linalg.norm(found["W_dec"], axis=1)
        found["W_enc"], found["b_enc"] = found["W_enc"] * lengths[:, None], found["b_enc"] * lengths
        found["W_dec"] = found["W_dec"] / lengths[:, None]
    if (found.get("threshold", np.zeros(1)) < 0).any():
        raise InputError(f"{where}: tensor 'threshold' is negative in places; features below 0 are not handled")
    return found


def config_of(cfg: Dictionary, dtype: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """The `cfg.json` of a dictionary.

    Raises:
      InputError: SAELens has no such dictionary.
    """
    known = WRITTEN.get(cfg.kind)
    if known is None or cfg.pieces > 1 or (cfg.d_out and known not in ("standard", "jumprelu")):
        raise InputError(
            f"SAELens has no dictionary of kind {cfg.kind!r} with d_out = {cfg.d_out}, pieces = {cfg.pieces}; "
            f"it has {', '.join(WRITTEN)}, and of transcoders standard and jumprelu"
        )
    name = known if not cfg.d_out else ("" if known == "standard" else "jumprelu_") + (
        "skip_transcoder" if cfg.skip else "transcoder"
    )  # fmt: skip
    found: dict[str, Any] = {
        "architecture": name,
        "d_in": int(cfg.d_in),
        "d_sae": int(cfg.width) or int(cfg.n_features),
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": bool(cfg.centred and not cfg.d_out),
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.0.0", **metadata},
    }
    found |= {"d_out": int(cfg.d_out)} if cfg.d_out else {}
    if known == "matching_pursuit":
        return found | PURSUIT | {"max_iterations": int(cfg.k)}
    return found | ({"k": int(cfg.k), "rescale_acts_by_decoder_norm": False} if known in ("topk", "abstopk") else {})


def tensors_of(params: Params, cfg: Dictionary) -> dict[str, np.ndarray]:
    """The tensors of the features in use."""
    used = int(cfg.width) or int(cfg.n_features)
    rows = {name: np.asarray(x)[:used] for name, x in params.items() if name not in ("b_dec", "W_skip", "threshold")}
    found = {"W_dec": rows["W_dec"], "b_dec": np.asarray(params["b_dec"])}
    if cfg.kind == "matching_pursuit":
        return found
    found["W_enc"] = rows["W_enc"].T
    if cfg.kind == "gated":
        found |= {"b_gate": rows["b_enc"], "b_mag": rows["b_mag"], "r_mag": rows["r_mag"]}
    else:
        found["b_enc"] = rows["b_enc"]
    if cfg.kind == "jumprelu":
        logs = cfg.thresholds == "log"
        found["threshold"] = np.exp(rows["log_threshold"]) if logs else np.asarray(params["threshold"])[:used]
    elif cfg.kind in ("batch_topk", "matryoshka"):
        found["threshold"] = np.full(used, max(float(params["threshold"]), 0.0), found["W_dec"].dtype)
    return found | ({"W_skip": np.asarray(params["W_skip"])} if cfg.skip else {})
