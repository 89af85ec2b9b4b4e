"""Reads and writes tensors as PyTorch's zip archives hold them, without PyTorch, and without running what a pickle asks for.

An archive (https://pytorch.org/docs/stable/notes/serialization.html) holds `NAME/data.pkl`, a pickle of the mapping in which
each tensor is a call of `torch._utils._rebuild_tensor_v2` on a storage, and storages as raw bytes, `NAME/data/KEY`. The reader
knows the few names that such a mapping needs, and refuses every other one, named: a pickle of anything else could run code.
"""

import io
import math
import os
import pickle
import secrets
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from interp_jax.atomic_io import explained
from interp_jax.data.paths_io import unreadable
from interp_jax.errors import InputError
from third_party.single_file_io import Tensors

STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "BoolStorage": np.bool_,
}
NAMES = {np.dtype(dtype): name for name, dtype in STORAGES.items()}


def read_pickle(file: Path) -> Tensors:
    """The tensors of an archive, as arrays by name.

    Raises:
      InputError: it is no such archive, is damaged, or holds anything but tensors by name.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            (pickled,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            found = _Reader(archive, pickled, file).load()
    except OSError as error:
        raise unreadable(file, error) from error
    except InputError:
        raise
    except Exception as error:  # a pickle that is cut or wrong fails in any way
        raise InputError(f"{file}: not an archive of tensors as torch.save writes it: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(x, np.ndarray) for x in found.values()):
        raise InputError(f"{file}: holds something else than tensors by name")
    return {str(name): x for name, x in found.items()}


class _Reader(pickle.Unpickler):
    """Knows what a mapping of tensors needs, and nothing else."""

    def __init__(self, archive: zipfile.ZipFile, pickled: str, file: Path) -> None:
        super().__init__(io.BytesIO(archive.read(pickled)))
        self.archive, self.root, self.file = archive, pickled.removesuffix("data.pkl"), file

    def find_class(self, module: str, name: str) -> Any:
        """What a name in a pickle stands for."""
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        if (module, name) not in known:
            raise InputError(
                f"{self.file}: its pickle asks for {module}.{name}, which a file of tensors does not need"
            )
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """A storage."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise InputError(f"{self.file}: holds a {kind!r}, which is no storage")
        return np.frombuffer(self.archive.read(f"{self.root}data/{key}"), dtype, count)


def _rebuild(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """A tensor: a view of its storage, copied."""
    if min((*size, *stride, offset), default=0) < 0:
        raise ValueError(f"a tensor of size {size}, stride {stride}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > len(storage) or (math.prod(size) and last >= len(storage)):
        raise ValueError(f"a tensor of size {size}, stride {stride} in a storage of {len(storage)}")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()


def write_pickle(file: Path, tensors: Tensors) -> None:
    """Writes an archive that `torch.load(file, weights_only=True)` reads; it replaces the one before it whole."""
    arrays = {name: np.asarray(x, order="C") for name, x in tensors.items()}
    staging = file.with_name(f".writing.{secrets.token_hex(4)}")
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(staging, "w") as archive:
                archive.writestr("archive/data.pkl", _pickled(arrays))
                archive.writestr("archive/byteorder", "little")
                for key, array in enumerate(arrays.values()):
                    archive.writestr(f"archive/data/{key}", array.tobytes())
                archive.writestr("archive/version", "3\n")
            os.replace(staging, file)
        finally:
            staging.unlink(missing_ok=True)


def _pickled(arrays: Tensors) -> bytes:
    """The pickle of the mapping, protocol 2."""
    called = lambda module, name: pickle.GLOBAL + f"{module}\n{name}\n".encode()
    found = pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK
    for key, (name, array) in enumerate(arrays.items()):
        strides = [step // array.itemsize for step in array.strides]
        storage = [
            _text("storage"),
            called("torch", NAMES[array.dtype]),
            _text(str(key)),
            _text("cpu"),
            _whole(array.size),
        ]
        hooks = called("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
        parts = [
            _group(storage) + pickle.BINPERSID,
            _whole(0),
            _group(map(_whole, array.shape)),
            _group(map(_whole, strides)),
        ]
        found += _text(name) + called("torch._utils", "_rebuild_tensor_v2") + _group([*parts, pickle.NEWFALSE, hooks])
        found += pickle.REDUCE
    return found + pickle.SETITEMS + pickle.STOP


def _group(parts: Any) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _text(value: str) -> bytes:
    raw = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def _whole(value: int) -> bytes:
    raw = int(value).to_bytes(8, "little", signed=True)
    return pickle.LONG1 + bytes([len(raw)]) + raw
