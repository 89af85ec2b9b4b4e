"""A store: activations of several places on disk, in shards that are read through the memory map.

    DIR/store.json             what it holds and what its shards are: `store_index_io.py`
    DIR/00000000.safetensors   a tensor [N D] for each place, by its name; row i of all is the same token

The format of shards is safetensors (https://github.com/huggingface/safetensors). A shard is listed once it is on disk whole,
and has its size checked when the store is opened, its SHA-256 when it is first used. Rows are kept as they were harvested:
`scale` says how long they are, and `mean` what they are on average.
"""

import hashlib
import json
import mmap
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from interp_jax.activations.harvest import Place
from interp_jax.activations.store_index_io import DTYPES, Index, as_json, check_size, read_index
from interp_jax.data.paths_io import expanded, unreadable
from interp_jax.errors import InputError

LENGTH = 8  # bytes that hold the length of a shard's header
MOST_MAPPED = 128  # shards at once: each takes a file descriptor

Rows = Mapping[str, Shaped[np.ndarray, "N D"]]


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
