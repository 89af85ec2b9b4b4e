"""Writes checkpoints in safetensors, as the Hugging Face hub publishes them (format: see `safetensors_io.py`).

Everything is written and flushed in a hidden directory beside the old files and moved at the end, the file that readers
begin with last. A reader finds the previous checkpoint, or the new one, or (where one file does not simply replace
another, for the moment of the renames) none; never a mixture. Whatever fails before that leaves the previous one.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from interp_jax.atomic_io import explained, sync_directory, write_json
from interp_jax.data.paths_io import expanded
from interp_jax.errors import InputError
from third_party.safetensors_io import DTYPES, INDEX, SINGLE

SHARDS = "model-*-of-*.safetensors"
PUBLISHED = {"format": "pt"}  # the metadata without which the transformers package refuses a file
WRITABLE = {np.dtype(dtype).name for dtype in DTYPES.values()}


def write_checkpoint(
    directory: str | Path,
    tensors: Mapping[str, Any] | Iterable[tuple[str, Any]],
    config: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] = PUBLISHED,
    max_shard_bytes: float = 5e9,
) -> None:
    """Writes `model.safetensors`, or shards and their index where that would be too large; and `config.json`.

    The files of a previous checkpoint are replaced, all others (a tokenizer, an earlier `config.json` if none is given)
    are left alone.

    Args:
      directory: where to; made if missing.
      tensors: arrays of NumPy, JAX or whatever else NumPy can convert, or pairs (name, array), of which no more are drawn
        at once than fit into a shard. Dtypes are kept.
      config: content of `config.json`.
      metadata: free text in every header.
      max_shard_bytes: a shard holds no more, save a single tensor that is larger.

    Raises:
      InputError: a dtype that the format lacks, a name given twice, no tensor, or a directory that cannot be written.
    """
    directory = expanded(directory)
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    with _staging(directory) as staging:
        if config is not None:
            write_json(staging / "config.json", config)
        held: list[list[str]] = []
        total = 0
        for shard in _shards(pairs, max_shard_bytes, directory):
            _save(staging / f"{len(held)}", shard, metadata, directory)
            held.append(list(shard))
            total += sum(array.nbytes for array in shard.values())
        _name_shards(staging, held, total)
        _publish(staging, directory)


def write_file(file: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] = PUBLISHED) -> None:
    """Writes one file of tensors, under any name; it replaces the one before it whole.

    Raises:
      InputError: a dtype that the format lacks, no tensor, or a file that cannot be written.
    """
    (shard,) = _shards(tensors.items(), float("inf"), file)
    with _staging(file.parent) as staging:
        _save(staging / file.name, shard, metadata, file.parent)
        with explained(file):
            os.replace(staging / file.name, file)
            sync_directory(file.parent)


def _shards(pairs: Iterable[tuple[str, Any]], max_bytes: float, directory: Path) -> Iterator[dict[str, np.ndarray]]:
    """Shard after shard; each is emptied when the next is asked for, so that two are never held."""
    shard: dict[str, np.ndarray] = {}
    size, seen = 0, set()
    for name, value in pairs:
        array = np.asarray(value, order="C")  # the package writes the memory as it lies, whatever the strides say
        if array.dtype.name not in WRITABLE:
            raise InputError(f"{directory}: tensor {name!r} is {array.dtype}, which safetensors cannot hold")
        if name in seen or name == "__metadata__":
            raise InputError(
                f"{directory}: tensor {name!r} {'is given twice' if name in seen else 'has a reserved name'}"
            )
        seen.add(name)
        if shard and size + array.nbytes > max_bytes:
            yield shard
            shard.clear()
            size = 0
        shard[name] = array
        size += array.nbytes
    if not shard:
        raise InputError(f"{directory}: no tensor to write")
    yield shard


def _save(file: Path, shard: dict[str, np.ndarray], metadata: Mapping[str, str], directory: Path) -> None:
    with explained(directory / SINGLE):
        file.touch()
        mode = file.stat().st_mode  # what the umask allows; the package's files are for their owner alone
        try:
            save_file(shard, file, metadata=dict(metadata))
        except SafetensorError as error:
            number = re.search(r"(?:os error |code: )(\d+)", str(error))
            if number is None:
                raise InputError(f"{directory}: {error}") from error
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        file.chmod(mode)
        with open(file, "rb") as written:
            os.fsync(written.fileno())


def _name_shards(staging: Path, held: list[list[str]], total: int) -> None:
    """Gives the numbered files their published names, which say how many there are, and writes the index."""
    if len(held) == 1:
        (staging / "0").rename(staging / SINGLE)
        return
    weight_map = {}
    for number, names in enumerate(held):
        published = f"model-{number + 1:05d}-of-{len(held):05d}.safetensors"
        (staging / f"{number}").rename(staging / published)
        weight_map |= dict.fromkeys(names, published)
    write_json(staging / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


@contextlib.contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    staging = directory / f".writing.{secrets.token_hex(4)}"
    with explained(staging):
        staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, directory: Path) -> None:
    written = {file.name for file in staging.iterdir()}
    with explained(directory / SINGLE):
        if written != {SINGLE}:  # several files cannot change at once: better none for a moment than a mixture
            (directory / SINGLE).unlink(missing_ok=True)
            (directory / INDEX).unlink(missing_ok=True)
        for name in sorted(written, key=(SINGLE, INDEX).__contains__):
            os.replace(staging / name, directory / name)
        previous = {SINGLE, INDEX, *(file.name for file in directory.glob(SHARDS))}
        for name in previous - written:
            (directory / name).unlink(missing_ok=True)
        sync_directory(directory)
