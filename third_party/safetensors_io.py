"""Reads checkpoints in safetensors, as the Hugging Face hub publishes them, through the memory map.

The format (https://github.com/huggingface/safetensors, Apache-2.0): eight bytes with the header's length, little-endian;
the header, a JSON object {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}; the data,
row-major and little-endian, without gaps. A checkpoint is one `model.safetensors`, or shards with
`model.safetensors.index.json`, whose "weight_map" says which shard holds a tensor. No code is ever run by reading one; a
flipped bit in the data goes unseen, as the format has no checksums.

The `safetensors` package checks every header. It is not asked for the data: its NumPy side copies a tensor whole and
knows no float8, where a view of the map costs nothing and a device takes only its own slice of it (`placement.py`).
"""

import dataclasses
import json
import mmap
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from interp_jax.data.paths_io import absence, expanded, names_in, read_json, shown, unreadable
from interp_jax.errors import InputError, nearest

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LENGTH = 8  # bytes that hold the header's length
LONGEST = 100_000_000  # bytes of a header: the package refuses more
CONVERT = "https://huggingface.co/spaces/safetensors/convert or save_pretrained(..., safe_serialization=True)"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
DTYPES = {
    **{"BOOL": np.bool_, "F16": np.float16, "F32": np.float32, "F64": np.float64, "C64": np.complex64},
    **{f"{kind}{8 * n}": np.dtype(f"{kind.lower()}{n}") for kind in "UI" for n in (1, 2, 4, 8)},
    **{"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2},
}


class FileMap(mmap.mmap):
    """A whole file, mapped for reading: a type of its own, so that its pages can be told from other memory."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where one tensor lies: `start` counts bytes from the beginning of the file, `code` is the format's dtype."""

    file: Path
    code: str
    shape: tuple[int, ...]
    start: int


@dataclasses.dataclass
class Checkpoint:
    """Tensors by name. Files are mapped on first use; what `read` gave stays valid after `close`, and holds its map.

    Attributes:
      path: the file or directory that was opened, for messages.
      entries: where each tensor lies.
      metadata: the headers' free text, of all shards together.
    """

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    _maps: dict[Path, FileMap] = dataclasses.field(default_factory=dict, repr=False)

    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self.entries)

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._entry(name).file

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return self._entry(name).shape

    def dtype(self, name: str) -> np.dtype:
        """A tensor's dtype, without reading it; bfloat16 and float8 are those of `ml_dtypes`.

        Raises:
          InputError: NumPy has no such dtype (several numbers to a byte).
        """
        entry = self._entry(name)
        if entry.code not in DTYPES:
            raise InputError(f"{entry.file}: tensor {name!r} is {entry.code}; readable: {', '.join(DTYPES)}")
        return np.dtype(DTYPES[entry.code])

    def read(self, name: str) -> np.ndarray:
        """A tensor as a read-only view of the mapped file: nothing is read before it is used, nothing is copied.

        Raises:
          InputError: no such tensor; or the file was removed or cut since, or NumPy has no array of such a shape.
        """
        entry, dtype = self._entry(name), self.dtype(name)
        try:
            if entry.file not in self._maps:
                with open(entry.file, "rb") as file:
                    self._maps[entry.file] = FileMap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return np.ndarray(entry.shape, dtype, self._maps[entry.file], entry.start)
        except OSError as error:
            raise unreadable(entry.file, error) from error
        except (TypeError, ValueError) as error:
            shape = list(entry.shape)
            raise InputError(f"{entry.file}: tensor {name!r} of shape {shape} cannot be read: {error}") from error

    def expect(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """`read`, after a look at the shape.

        Raises:
          InputError: another shape, or no such tensor.
        """
        if self.shape(name) != tuple(shape):
            actual, expected = list(self.shape(name)), list(shape)
            raise InputError(f"{self.file(name)}: tensor {name!r} has shape {actual}, expected {expected}")
        return self.read(name)

    def close(self) -> None:
        """Forgets the maps; each is undone when the last view of it goes."""
        self._maps.clear()

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise InputError(f"{self.path}: no tensor {name!r}; {meant(name, self.entries)}")
        return self.entries[name]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a `.safetensors` file, an index, or a directory with either; reads the headers and no data.

    Raises:
      InputError: nothing there, a pickle, a damaged file, or an index and shards that contradict each other.
    """
    path = expanded(path)
    begin = _begin(path)
    weight_map = _weight_map(begin) if begin.name.endswith(".index.json") else None
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    for file in [begin] if weight_map is None else sorted({begin.with_name(name) for name in weight_map.values()}):
        if not os.path.isfile(file):
            reason = absence(file) or f"which is missing from {file.parent}"
            raise InputError(f"{begin}: it lists the shard {shown(file.name)}, {reason}")
        held, about = _header(file)
        metadata |= about
        for name, entry in held.items():
            if name in entries:
                raise InputError(f"{begin}: tensor {name!r} is in both {entries[name].file.name} and {file.name}")
            entries[name] = entry
    if weight_map is not None:
        _check_places(begin, weight_map, entries)
        entries = {name: entries[name] for name in weight_map}
    return Checkpoint(path, entries, metadata)


def _begin(path: Path) -> Path:
    """The file that reading begins with."""
    if os.path.isfile(path):
        return path
    if not os.path.isdir(path):
        reason = absence(path) or f"no such file or directory; {meant(path.name, names_in(path.parent))}"
        raise InputError(f"{shown(path)}: {reason}")
    for name in (SINGLE, INDEX):
        if os.path.isfile(path / name):
            return path / name
        if reason := absence(path / name):
            raise InputError(f"cannot read {path / name}: {reason}")
    held = sorted(names_in(path), key=lambda name: (not name.startswith("pytorch_"), name))
    others = [name for name in held if name.endswith(".safetensors")]
    pickles = [name for name in held if name.endswith(PICKLES)]
    if pickles and not others:
        raise InputError(f"{path / pickles[0]}: pickle, not safetensors: convert it with {CONVERT}")
    nothing = "it is empty" if os.access(path, os.R_OK) else "its names may not be read"
    what = f"it holds {', '.join((others or held)[:4])}; name a file to read it alone" if held else nothing
    raise InputError(f"{path}: neither {SINGLE} nor {INDEX} in this directory; {what}")


def _weight_map(index: Path) -> dict[str, str]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index}: expected an object weight_map from tensor names to shards")
    for name, file in places.items():
        if not isinstance(file, str) or not file or Path(file).name != file:  # never out of the checkpoint's directory
            raise InputError(f"{index}: tensor {name!r} should be in a file beside the index, not in {file!r}")
    return places


def _check_places(index: Path, weight_map: Mapping[str, str], entries: Mapping[str, Entry]) -> None:
    for name, file in weight_map.items():
        if name not in entries or entries[name].file.name != file:
            where = f"it is in {entries[name].file.name}" if name in entries else meant(name, entries)
            raise InputError(f"{index}: tensor {name!r} should be in {file}, which lacks it; {where}")


def _header(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The entries and the metadata of a file that the package found sound."""
    try:
        with open(file, "rb") as content:  # first, as the package calls whatever it may not read "no such file"
            with safe_open(file, framework="np"):
                pass
            length = int.from_bytes(content.read(LENGTH), "little")
            header = json.loads(content.read(length))
    except OSError as error:
        raise unreadable(file, error) from error
    except SafetensorError as error:
        raise InputError(f"{file}: {_damage(file)} ({error})") from error
    metadata = header.pop("__metadata__", None) or {}
    start = LENGTH + length
    return {
        name: Entry(file, about["dtype"], tuple(about["shape"]), start + about["data_offsets"][0])
        for name, about in header.items()
    }, metadata


def _damage(file: Path) -> str:
    """What is wrong with a file that the package refused. A sound one may well begin as a pickle does: ask it first."""
    size = file.stat().st_size
    with open(file, "rb") as content:
        first = content.read(LENGTH)
        length = int.from_bytes(first, "little")
        header = content.read(length) if length <= size else b""
    pickled = (first[:1] == b"\x80" and length > LONGEST) or first.startswith(b"PK\x03\x04")
    if file.suffix in PICKLES or pickled:
        return f"pickle, not safetensors: convert it with {CONVERT}"
    if first == b"version ":
        return "a git-lfs pointer in the place of the weights: fetch them with git lfs pull"
    if size >= LENGTH and length > LONGEST:
        return "not safetensors, or a corrupt header"
    if size < LENGTH + length:
        return f"truncated: {size} bytes, which end inside the header"
    try:
        ends = [about["data_offsets"][1] for name, about in json.loads(header).items() if name != "__metadata__"]
        whole = LENGTH + length + max(ends, default=0)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return "corrupt header"
    found = f"{size} bytes, expected {whole}"
    return "corrupt header" if size == whole else f"{'truncated' if size < whole else 'corrupt'}: {found}"


def meant(name: str, known: Collection[str]) -> str:
    """`nearest`, cut short where the names of a large model would follow."""
    clause = nearest(name, known)
    return clause if len(clause) < 200 else f"{clause[:200]} … ({len(known)} in all)"
