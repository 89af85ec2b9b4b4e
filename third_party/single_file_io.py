"""Reads and writes a directory that holds one file of tensors and one JSON file beside it, as published dictionaries do."""

import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interp_jax.atomic_io import explained, write_json
from interp_jax.data.paths_io import expanded, read_json
from interp_jax.errors import InputError, nearest
from third_party.safetensors_io import open_checkpoint
from third_party.safetensors_writer_io import write_file

Tensors = dict[str, np.ndarray]


def read_directory(directory: str | Path, tensors: str, config: str) -> tuple[Tensors, dict[str, Any], Path]:
    """All tensors of a safetensors file, the JSON beside it, and the tensors' file.

    Raises:
      InputError: either is missing or damaged.
    """
    directory = expanded(directory)
    found = read_json(directory / config)
    return read_tensors(directory / tensors), found, directory / tensors


def read_tensors(file: Path) -> Tensors:
    """All tensors of a safetensors file."""
    with open_checkpoint(file) as checkpoint:
        return {name: np.array(checkpoint.read(name)) for name in checkpoint.names()}


def write_directory(
    directory: str | Path, tensors: tuple[str, Tensors], config: tuple[str, Mapping[str, Any]]
) -> None:
    """Both files, named; each replaces the one before it whole, the tensors first."""
    directory = expanded(directory)
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
    write_file(directory / tensors[0], tensors[1])
    write_json(directory / config[0], config[1])


def write_npz(file: Path, tensors: Tensors) -> None:
    """A NumPy archive, which replaces the one before it whole."""
    file = expanded(file)
    staging = file.with_name(f".writing.{secrets.token_hex(4)}.npz")
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(staging, **tensors)
            os.replace(staging, file)
        finally:
            staging.unlink(missing_ok=True)


def check_tensors(
    file: Path, tensors: Tensors, wanted: Mapping[str, tuple[int, ...]], allowed: Collection[str] = ()
) -> None:
    """Raise `InputError` for a tensor that is missing, unknown, of another shape, or not finite throughout."""
    for name, shape in wanted.items():
        if name not in tensors:
            raise InputError(f"{file}: no tensor {name!r}; {nearest(name, tensors)}")
        if tensors[name].shape != shape:
            raise InputError(f"{file}: tensor {name!r} has shape {list(tensors[name].shape)}, expected {list(shape)}")
    for name in tensors:
        if name not in wanted and name not in allowed:
            raise InputError(f"{file}: tensor {name!r} is not one that such a dictionary has: {', '.join(wanted)}")
    for name, x in tensors.items():
        finite = np.isfinite(x)
        if not finite.all():
            where = tuple(map(int, np.argwhere(~finite)[0]))
            raise InputError(
                f"{file}: tensor {name!r} is not finite in {(~finite).sum()} places, first at {list(where)}"
            )
