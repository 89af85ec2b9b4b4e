"""Atomic writes: a file is either its previous version or its new one, never half of either.

The new bytes go to a temporary file in the same directory, are flushed to the disk, and take the file's name in one
`rename`. Whatever fails before that (a full disk, an exception in the caller, `kill -9`) leaves the previous version as
it was.
"""

import contextlib
import errno
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from interp_jax.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
NOT_A_DIRECTORY = (errno.EEXIST, errno.ENOTDIR)
IMPOSSIBLE = (errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO)


@contextlib.contextmanager
def atomic(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file to write; it becomes `path` when the block ends without an exception. Directories are made.

    Args:
      path: the file to make or replace.
      mode: "wb" or "w" (UTF-8).

    Raises:
      InputError: the disk is full or over quota, or the directory cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)


@contextlib.contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turns the operating system's refusals to write `path` into an `InputError` of one line."""
    try:
        yield
    except OSError as error:
        directory = Path(path).parent
        if error.errno in DISK_FULL:
            raise InputError(disk_full(path)) from error
        if error.errno in FORBIDDEN:
            reason = os.strerror(error.errno).lower()
            raise InputError(f"cannot write in {directory}: {reason}; choose another output directory") from error
        if error.errno in NOT_A_DIRECTORY:
            raise InputError(
                f"cannot write in {directory}: {_not_a_directory(directory)} is not a directory"
            ) from error
        if error.errno in IMPOSSIBLE:
            raise InputError(f"cannot write {path}: {os.strerror(error.errno).lower()}") from error
        raise


def _not_a_directory(directory: Path) -> Path:
    return next((path for path in (directory, *directory.parents) if path.exists() and not path.is_dir()), directory)


def disk_full(path: str | Path) -> str:
    """What to tell a person whose disk filled up during a write."""
    return (
        f"disk full while writing {path}; the previous version is intact, free space and start the same command again"
    )


def sync_directory(directory: Path) -> None:
    """Makes a rename in `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_writable(directory: str | Path) -> Path:
    """`directory`, made where it is missing, after a trial write in it: to call before a job computes anything.

    Raises:
      InputError: it cannot be made or written, or its disk is full.
    """
    directory = Path(directory)
    trial = directory / f".trial.{secrets.token_hex(4)}"
    write_bytes(trial, b"x")
    trial.unlink()
    return directory


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes bytes atomically."""
    with atomic(path, "wb") as file:
        file.write(content)


def write_text(path: str | Path, content: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic(path, "w") as file:
        file.write(content)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON atomically; see `jsonable` for what becomes of arrays and non-finite numbers."""
    write_text(path, json.dumps(jsonable(value), indent=1, allow_nan=False) + "\n")


def write_npz(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays as an uncompressed `.npz` atomically; bfloat16, which NumPy cannot name, becomes float32."""
    with atomic(path, "wb") as file:
        np.savez(file, allow_pickle=False, **{name: _nameable(np.asarray(array)) for name, array in arrays.items()})


def _nameable(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def jsonable(value: Any) -> Any:
    """`value` in JSON's own types: arrays as nested lists, non-finite numbers as null, anything unknown as its `str`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return jsonable(array.astype(np.float32).tolist() if array.dtype.name == "bfloat16" else array.tolist())
    return str(value)
