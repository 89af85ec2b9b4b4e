"""Dictionaries of dictionary_learning: `ae.pt`, a pickle that is read without running it, beside `config.json`.

    params, cfg = dictionary_learning.load("trainer_0")          # a directory, or an `ae.pt`
    dictionary_learning.save("directory", params, cfg)

README.md says what becomes of what.
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from interp_jax.atomic_io import write_json
from interp_jax.data.paths_io import expanded, read_json
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.parameters import Params
from interp_jax.errors import InputError, nearest
from third_party.dictionary_learning.layouts import (
    CLASSES,
    class_named,
    class_of,
    dictionary_of,
    params_of,
    tensors_of,
)
from third_party.dictionary_learning.pickles_io import read_pickle, write_pickle
from third_party.single_file_io import Tensors

__all__ = ["load", "save"]

WEIGHTS, CONFIG = "ae.pt", "config.json"


def load(path: str | Path) -> tuple[Params, Dictionary]:
    """A dictionary's parameters and config.

    Raises:
      InputError: nothing there, a pickle of something else, or a tensor that is missing, unknown or of another shape.
    """
    path = expanded(path)
    file = path / WEIGHTS if path.is_dir() else path
    tensors = read_pickle(file)
    trainer = trainer_of(file.with_name(CONFIG))
    kind = said_class(trainer, file) or class_of(tensors, file)
    cfg = dictionary_of(kind, tensors, file, trainer)
    return {name: jnp.asarray(x) for name, x in params_of(kind, tensors, cfg).items()}, cfg


def trainer_of(file: Path) -> dict[str, Any]:
    """What `config.json` says of the trainer; nothing where there is no such file."""
    trainer = read_json(file).get("trainer") if file.exists() else None
    return trainer if isinstance(trainer, dict) else {}


def said_class(trainer: dict[str, Any], file: Path) -> str:
    """The class that the trainer names, if it does."""
    name = trainer.get("dict_class", "")
    if name and name not in CLASSES:
        raise InputError(f"{file}: dict_class = {name!r} is not handled; {nearest(str(name), CLASSES)}")
    return name


def save(directory: str | Path, params: Params, cfg: Dictionary) -> None:
    """Writes a dictionary; features not in use are left out.

    Raises:
      InputError: dictionary_learning has no such dictionary.
    """
    directory = expanded(directory)
    kind = class_named(cfg)
    tensors: Tensors = tensors_of(kind, {name: np.asarray(x) for name, x in params.items()}, cfg)
    write_pickle(directory / WEIGHTS, tensors)
    trainer = {"dict_class": kind, "activation_dim": cfg.d_in, "dict_size": int(cfg.width) or cfg.n_features}
    write_json(directory / CONFIG, {"trainer": trainer | ({"k": int(cfg.k)} if cfg.is_by_k else {})})
