"""A store: activations of several places on disk, in shards that are read through the memory map.

    DIR/store.json             what it holds and what its shards are; see `About` and `Shard`
    DIR/00000000.safetensors   a tensor [N D] for each place, by its name; row i of all is the same token

The format of shards is safetensors (https://github.com/huggingface/safetensors). A shard is listed once it is on disk whole,
and has its size checked when the store is opened, its SHA-256 when it is first used. Rows are kept as they were harvested:
`scale` says how long they are, and `mean` what they are on average.
"""

import dataclasses
import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Int, Shaped

from interp_jax.activations.harvest import Place
from interp_jax.data.paths_io import absence, expanded, names_in, read_json, shown, unreadable
from interp_jax.errors import InputError, nearest

INDEX = "store.json"
FORMAT, VERSION = "interp_jax.activations", 1
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
LENGTH = 8  # bytes that hold the length of a shard's header
MOST_MAPPED = 128  # shards at once: each takes a file descriptor

Rows = Mapping[str, Shaped[np.ndarray, "N D"]]


@dataclasses.dataclass(frozen=True)
class About:
    """What a store holds.

    Attributes:
      model: its name, for people.
      parameters: SHA-256 of the model's parameters.
      places: by name, site and layer.
      widths: by name.
      dtype: of all: float32, bfloat16 or float16.
      settings: how they were harvested, the seed of the text's windows included; whatever JSON can hold.
      scale: by name, the mean length of rows over √width; empty where that is not known.
      mean: by name, of the rows as they are; empty where that is not known.
    """

    model: str
    parameters: str
    places: Mapping[str, Place]
    widths: Mapping[str, int]
    dtype: str = "float32"
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scale: Mapping[str, float] = dataclasses.field(default_factory=dict)
    mean: Mapping[str, list[float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `InputError` for a dtype that is not known, and places without a width."""
        if self.dtype not in DTYPES:
            raise InputError(f"dtype = {self.dtype!r}: {nearest(self.dtype, DTYPES)}")
        if not self.places or set(self.places) != set(self.widths):
            raise InputError(f"a store of {sorted(self.places)} has widths of {sorted(self.widths)}")

    def place(self, name: str) -> str:
        """A place in words."""
        return f"{self.places[name].site} of layer {self.places[name].layer}"


class Shard(NamedTuple):
    """A file of a store: its name, the stretches and rows that it has, its size, and the SHA-256 of its bytes."""

    file: str
    stretches: int
    rows: int
    bytes: int
    sha256: str


class Index(NamedTuple):
    """What `store.json` says: what is held, the shards, and the stretches that the store will have when it is whole."""

    about: About
    shards: tuple[Shard, ...]
    planned: int

    @property
    def stretches(self) -> int:
        """Those that are there."""
        return sum(shard.stretches for shard in self.shards)


def as_json(index: Index) -> dict[str, Any]:
    """The content of `store.json`."""
    about = dataclasses.asdict(index.about)
    about["places"] = {name: place._asdict() for name, place in index.about.places.items()}
    shards = [shard._asdict() for shard in index.shards]
    return {"format": FORMAT, "version": VERSION, "about": about, "planned": index.planned, "shards": shards}


def read_index(directory: Path) -> Index:
    """What a store says of itself.

    Raises:
      InputError: no store, one of another version, or a damaged index.
    """
    path = directory / INDEX
    if not os.path.isfile(path):
        held = sorted(names_in(directory))
        what = f"it holds {', '.join(held[:4])}" if held else "it is empty"
        reason = (
            f"it has no {INDEX}; {what}" if os.path.isdir(directory) else absence(directory) or "no such directory"
        )
        raise InputError(f"{shown(directory)} is no store of activations: {reason}")
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise InputError(
            f"{directory} is no store of activations: the format of its {INDEX} is {content.get('format')!r}"
        )
    if content.get("version") != VERSION:
        raise InputError(f"{path}: version {content.get('version')!r} of the format; this program reads {VERSION}")
    try:
        held = dict(content["about"])
        held["places"] = {name: Place(**place) for name, place in held["places"].items()}
        return Index(About(**held), tuple(Shard(**shard) for shard in content["shards"]), content["planned"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): write the store again") from None


class Store:
    """An open store: rows of all its places, by their numbers.

    Attributes:
      about: what it holds.
      shards: its files.
      n_rows: of all shards.
      shapes: by name, [N D] of the whole.
    """

    def __init__(self, directory: Path, index: Index) -> None:
        self.directory, self.about, self.shards = directory, index.about, index.shards
        self.ends = np.cumsum([shard.rows for shard in index.shards])
        self.n_rows = int(self.ends[-1])
        self.shapes = {name: (self.n_rows, width) for name, width in self.about.widths.items()}
        self.identity = hashlib.sha256(json.dumps(as_json(index), sort_keys=True).encode()).digest()
        self._sound: set[int] = set()
        self._awaited: frozenset[int] = frozenset()
        self._mapped = lru_cache(maxsize=MOST_MAPPED)(self._map)

    def rows(self, first: int, n: int) -> Rows:
        """Rows as they lie, by place: views of the mapped file where one shard has them all.

        Raises:
          InputError: there are no such rows; a shard that is damaged.
        """
        if not 0 <= first <= first + n <= self.n_rows or n < 1:
            raise InputError(f"{self.directory}: has the rows 0 to {self.n_rows - 1}, not {first} to {first + n - 1}")
        i, last = (int(np.searchsorted(self.ends, row, side="right")) for row in (first, first + n - 1))
        if i < last:
            return self.take(np.arange(first, first + n))
        begin = first - self._start(i)
        return {name: x[begin : begin + n] for name, x in self._mapped(i)[1].items()}

    def take(self, numbers: Int[np.ndarray, " N"], names: tuple[str, ...] = ()) -> Rows:
        """Rows by their numbers in any order, copied, of the named places or all.

        Raises:
          InputError: a shard that is damaged; a row that is not finite, with its place and number.
        """
        names = names or tuple(self.about.places)
        of_row = np.searchsorted(self.ends, numbers, side="right")
        dtype = DTYPES[self.about.dtype]
        found = {name: np.empty((len(numbers), self.about.widths[name]), dtype) for name in names}
        shards = np.unique(of_row).tolist()
        self._await(frozenset(shards))
        for i in shards:
            chosen = slice(None) if len(shards) == 1 else np.flatnonzero(of_row == i)
            views = self._mapped(i)[1]
            for name in names:
                found[name][chosen] = views[name][numbers[chosen] - self._start(i)]
        for name, x in found.items():
            if not np.isfinite(x).all():
                at = int(numbers[int(np.argmin(np.isfinite(x).all(1)))])
                i = int(np.searchsorted(self.ends, at, side="right"))
                raise InputError(
                    f"{self.directory / self.shards[i].file}: row {at - self._start(i)} of {self.about.place(name)} is not "
                    f"finite; it is row {at} of the store"
                )
        return found

    def named(self, place: Place, width: int) -> str:
        """The name of a place.

        Raises:
          InputError: it is not held, or of another width.
        """
        names = [name for name, held in self.about.places.items() if held == place]
        if not names:
            held = ", ".join(self.about.place(name) for name in self.about.places)
            raise InputError(f"{self.directory} holds {held}; {place.site} of layer {place.layer} was asked for")
        if (held := self.about.widths[names[0]]) != width:
            raise InputError(
                f"{self.directory} holds {self.about.place(names[0])}, {held} wide; {width} was asked for"
            )
        return names[0]

    def _start(self, i: int) -> int:
        return int(self.ends[i]) - self.shards[i].rows

    def _await(self, shards: frozenset[int]) -> None:
        """Ask the system for whole shards when they come to be read: rows in any order would be fetched page by page."""
        for i in shards - self._awaited:
            self._mapped(i)[0].madvise(mmap.MADV_WILLNEED)
        self._awaited = shards

    def _map(self, i: int) -> tuple[mmap.mmap, Rows]:
        """The map of a shard's file, and views of its tensors."""
        shard = self.shards[i]
        file = self.directory / shard.file
        check_size(self.directory, shard)
        try:
            with open(file, "rb") as content:
                mapped = mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise unreadable(file, error) from error
        if i not in self._sound and hashlib.sha256(mapped).hexdigest() != shard.sha256:
            raise InputError(f"{file}: changed since it was written (its SHA-256 differs): write the store again")
        self._sound.add(i)
        length = int.from_bytes(mapped[:LENGTH], "little")
        header, dtype = json.loads(mapped[LENGTH : LENGTH + length]), DTYPES[self.about.dtype]
        begin = {name: LENGTH + length + header[name]["data_offsets"][0] for name in self.about.places}
        shapes = {name: (shard.rows, width) for name, width in self.about.widths.items()}
        return mapped, {name: np.ndarray(shapes[name], dtype, mapped, begin[name]) for name in self.about.places}


def open_store(directory: str | Path, partly: bool = False) -> Store:
    """Open a store; reads its index and the sizes of its shards.

    Args:
      directory: of the store.
      partly: also one that is not written to its end.

    Raises:
      InputError: no store, one that is not written to its end, or a shard that is missing or cut.
    """
    directory = expanded(directory)
    index = read_index(directory)
    for shard in index.shards:
        check_size(directory, shard)
    if not index.shards or (index.stretches < index.planned and not partly):
        raise InputError(
            f"{directory}: {index.stretches} of {index.planned} stretches are written: give the command that writes it again"
        )
    return Store(directory, index)


def check_size(directory: Path, shard: Shard) -> None:
    """Raise `InputError` for a shard that is missing or of another size."""
    file = directory / shard.file
    try:
        size = os.stat(file).st_size
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise InputError(f"{file}: {reason}; expected {shard.bytes} bytes: write the store again") from None
    if size != shard.bytes:
        what = "truncated" if size < shard.bytes else "too long"
        raise InputError(f"{file}: {what}: {size} bytes, expected {shard.bytes}: write the store again")
