"""Cross-layer transcoders as circuit-tracer keeps them: two safetensors files for each layer.

    params, cfg = circuit_tracer.load("directory")
    circuit_tracer.save("directory", params, cfg)

README.md says what becomes of what.
"""

import itertools
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from interp_jax.atomic_io import explained
from interp_jax.data.paths_io import expanded
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.parameters import Params
from interp_jax.errors import InputError
from third_party.safetensors_writer_io import write_file
from third_party.single_file_io import Tensors, check_tensors, read_tensors

__all__ = ["load", "save"]


def load(directory: str | Path) -> tuple[Params, Dictionary]:
    """A transcoder's parameters and config.

    Raises:
      InputError: no layer there, a layer's other file is missing or damaged, or a tensor that is missing, unknown or of another
        shape.
    """
    directory = expanded(directory)
    names = itertools.takewhile(
        lambda file: file.is_file(), (directory / f"W_enc_{i}.safetensors" for i in itertools.count())
    )
    encoders = [(file, read_tensors(file)) for file in names]
    if not encoders:
        raise InputError(f"{directory}: no W_enc_0.safetensors there")
    file, first = encoders[0]
    if "W_enc_0" not in first or first["W_enc_0"].ndim != 2 or "b_dec_0" not in first:
        raise InputError(f"{file}: W_enc_0 [F, D] and b_dec_0 are not both there; it has {', '.join(sorted(first))}")
    (F, D), width, jumps, L = first["W_enc_0"].shape, len(first["b_dec_0"]), "threshold_0" in first, len(encoders)
    params: dict[str, list[np.ndarray]] = {"W_enc": [], "b_enc": [], "b_dec": [], "threshold": []}
    decoders: Tensors = {}
    for layer, (file, tensors) in enumerate(encoders):
        wanted: dict[str, tuple[int, ...]] = {"W_enc": (F, D), "b_enc": (F,), "b_dec": (width,)}
        wanted |= {"threshold": (F,)} if jumps else {}
        check_tensors(file, tensors, {f"{name}_{layer}": shape for name, shape in wanted.items()})
        for name in wanted:
            params[name].append(tensors[f"{name}_{layer}"])
        written = directory / f"W_dec_{layer}.safetensors"
        found, name = read_tensors(written), f"W_dec_{layer}"
        check_tensors(written, found, {name: (F, L - layer, width)})
        decoders[name] = found[name]
    stacked = {name: np.stack(x) for name, x in params.items() if name != "threshold"}
    threshold = np.concatenate(params["threshold"]) if jumps else np.zeros(L * F, stacked["W_enc"].dtype)
    cfg = Dictionary(
        kind="cross_layer", pieces=L, d_in=L * D, d_out=L * width, n_features=L * F, most=1, k=1, thresholds="linear"
    )
    cfg.check()
    return {name: jnp.asarray(x) for name, x in (stacked | decoders | {"threshold": threshold}).items()}, cfg


def save(directory: str | Path, params: Params, cfg: Dictionary) -> None:
    """Writes a transcoder, layer by layer.

    Raises:
      InputError: not a cross-layer transcoder.
    """
    directory = expanded(directory)
    if cfg.kind != "cross_layer":
        raise InputError(f"{directory}: circuit-tracer's files are of cross-layer transcoders, not of {cfg.kind!r}")
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
    p = {name: np.asarray(x) for name, x in params.items()}
    threshold = p["threshold"] if cfg.thresholds == "linear" else np.exp(p["log_threshold"])
    by_layer = {name: p[name] for name in ("W_enc", "b_enc", "b_dec")} | {
        "threshold": threshold.reshape(cfg.pieces, -1)
    }
    for layer in range(cfg.pieces):
        write_file(
            directory / f"W_enc_{layer}.safetensors", {f"{name}_{layer}": x[layer] for name, x in by_layer.items()}
        )
        write_file(directory / f"W_dec_{layer}.safetensors", {f"W_dec_{layer}": p[f"W_dec_{layer}"]})
