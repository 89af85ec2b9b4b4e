"""Dictionaries of EleutherAI's sparsify: TopK autoencoders and transcoders, `cfg.json` beside `sae.safetensors`.

    params, cfg = sparsify.load("layers.10")
    sparsify.save("directory", params, cfg)

README.md says what becomes of what.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.parameters import Params
from interp_jax.errors import InputError
from third_party.single_file_io import Tensors, check_tensors, read_directory, write_directory

__all__ = ["load", "save"]

WEIGHTS, CONFIG = "sae.safetensors", "cfg.json"


def load(directory: str | Path) -> tuple[Params, Dictionary]:
    """A dictionary's parameters and config.

    Raises:
      InputError: a file or tensor is missing or of another shape, or the config says what is not handled.
    """
    tensors, config, file = read_directory(directory, WEIGHTS, CONFIG)
    cfg = dictionary_of(config, str(file.with_name(CONFIG)))
    D, F = cfg.d_in, cfg.n_features
    wanted: dict[str, tuple[int, ...]] = {
        "encoder.weight": (F, D),
        "encoder.bias": (F,),
        "W_dec": (F, D),
        "b_dec": (D,),
    }
    check_tensors(file, tensors, wanted | ({"W_skip": (D, D)} if cfg.skip else {}))
    params = {"W_enc": tensors["encoder.weight"], "b_enc": tensors["encoder.bias"]}
    params |= {name: tensors[name] for name in ("W_dec", "b_dec", *(["W_skip"] if cfg.skip else []))}
    return {name: jnp.asarray(x) for name, x in params.items()}, cfg


def dictionary_of(config: Mapping[str, Any], where: str) -> Dictionary:
    """The dictionary that a config describes.

    Raises:
      InputError: it says what is not handled, or lacks a field.
    """
    if missing := [name for name in ("d_in", "k") if type(config.get(name)) is not int]:
        raise InputError(f"{where}: no field {missing[0]!r} that is a number")
    if config.get("activation", "topk") != "topk" or config.get("signed"):
        raise InputError(f"{where}: activation = {config.get('activation')!r}: only topk, unsigned, is handled")
    D = config["d_in"]
    F = config.get("num_latents") or D * config.get("expansion_factor", 0)
    if not F:
        raise InputError(f"{where}: neither num_latents nor expansion_factor says how many features there are")
    transcode, skip = bool(config.get("transcode")), bool(config.get("skip_connection"))
    if skip and not transcode:
        raise InputError(f"{where}: skip_connection without transcode is not handled: what is read is known already")
    cfg = Dictionary(
        kind="topk", d_in=D, d_out=D if transcode else 0, n_features=F, most=config["k"], k=config["k"], skip=skip
    )
    cfg.check()
    return cfg


def save(directory: str | Path, params: Params, cfg: Dictionary) -> None:
    """Writes a dictionary; features not in use are left out.

    Raises:
      InputError: sparsify has no such dictionary.
    """
    if cfg.kind != "topk" or cfg.pieces > 1 or cfg.width_out != cfg.d_in or not (cfg.centred or cfg.d_out):
        raise InputError(
            f"{directory}: sparsify has TopK dictionaries that read and write one width, not {cfg.kind!r} with d_in = "
            f"{cfg.d_in}, d_out = {cfg.d_out}, pieces = {cfg.pieces}, centred = {cfg.centred}"
        )
    used = int(cfg.width) or cfg.n_features
    tensors: Tensors = {"encoder.weight": np.asarray(params["W_enc"])[:used]}
    tensors |= {"encoder.bias": np.asarray(params["b_enc"])[:used], "W_dec": np.asarray(params["W_dec"])[:used]}
    tensors |= {name: np.asarray(params[name]) for name in ("b_dec", *(["W_skip"] if cfg.skip else []))}
    config = {
        "activation": "topk",
        "d_in": cfg.d_in,
        "expansion_factor": max(1, used // cfg.d_in),
        "k": int(cfg.k),
        "multi_topk": False,
        "normalize_decoder": not cfg.d_out,
        "num_latents": used,
        "skip_connection": cfg.skip,
        "transcode": bool(cfg.d_out),
    }
    write_directory(directory, (WEIGHTS, tensors), (CONFIG, config))
