"""Dictionaries as SAELens keeps them for inference: `cfg.json` beside `sae_weights.safetensors`.

    params, cfg = saelens.load("directory")
    saelens.save("directory", params, cfg, {"model_name": "gpt2", "hook_name": "blocks.8.hook_resid_pre"})

Formats of version 6, and of those before it. README.md says what becomes of what. What reads its input in another way, or has a
field that is not known here, is refused by name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.parameters import Params
from third_party.saelens.layouts import config_of, dictionary_of, params_of, shapes_of, tensors_of
from third_party.single_file_io import check_tensors, read_directory, write_directory

__all__ = ["load", "save"]

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"


def load(directory: str | Path) -> tuple[Params, Dictionary]:
    """A dictionary's parameters and config.

    Raises:
      InputError: a file or tensor is missing or of another shape, or the config says what is not handled.
    """
    tensors, config, file = read_directory(directory, WEIGHTS, CONFIG)
    cfg, extra = dictionary_of(config, str(file.with_name(CONFIG)))
    check_tensors(file, tensors, shapes_of(cfg, extra.architecture), ("scaling_factor", "finetuning_scaling_factor"))
    params = params_of({name: np.asarray(x) for name, x in tensors.items()}, cfg, extra, str(file))
    return {name: jnp.asarray(x) for name, x in params.items()}, cfg


def save(directory: str | Path, params: Params, cfg: Dictionary, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a dictionary for inference; features not in use are left out.

    Args:
      directory: where to; made if missing.
      params: parameters.
      cfg: their config.
      metadata: free values under SAELens' names: `model_name`, `hook_name`, `dataset_path`, …

    Raises:
      InputError: SAELens has no such dictionary.
    """
    config = config_of(cfg, str(np.asarray(params["b_dec"]).dtype), dict(metadata or {}))
    write_directory(directory, (WEIGHTS, tensors_of(params, cfg)), (CONFIG, config))
