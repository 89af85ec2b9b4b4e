"""Writes a store (format: see `store_io.py`), one shard after the other, each of whole stretches of activations.

A shard takes its name when it is on disk whole, and is listed in `store.json` after that. Stretches are functions of their
number alone; so a writer that was killed goes on after the last shard that is listed, and ends with the same bytes.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Shaped

from interp_jax.activations.store_io import (
    DTYPES,
    INDEX,
    LENGTH,
    About,
    Index,
    Rows,
    Shard,
    Store,
    as_json,
    check_size,
    open_store,
    read_index,
)
from interp_jax.atomic_io import atomic, disk_full, ensure_writable, write_json
from interp_jax.data.paths_io import expanded
from interp_jax.errors import InputError

CODES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # of safetensors
Stretch = Callable[[int], Mapping[str, Shaped[Array, "... D"] | Shaped[np.ndarray, "... D"]]]


def write_store(directory: str | Path, about: About, stretch: Stretch, n: int, per_shard: int = 1) -> Store:
    """Write the stretches 0 … n - 1, or those of them that are not there yet.

    Args:
      directory: where to; made if missing.
      about: what is written.
      stretch: b -> {name: rows}, a function of b alone. It is asked for the next one before the last is written, so that a
        device works meanwhile.
      n: how many.
      per_shard: stretches of a shard.

    Raises:
      InputError: the directory holds another store or cannot be written; a row that is not finite; the disk is too small.
    """
    if n < 1 or per_shard < 1:
        raise InputError(f"{n} stretches, {per_shard} in a shard: both must be at least 1")
    directory = ensure_writable(expanded(directory))
    index = begun(directory, about, n)
    made: list[Rows] = []
    for b, rows in in_advance(stretch, index.stretches, n):
        made.append(sound(about, rows, b, f"{directory / name_of(index)}"))
        if len(made) == per_shard or b == n - 1:
            index = index._replace(shards=(*index.shards, write_shard(directory, index, made)))
            write_json(directory / INDEX, as_json(index))
            made = []
    return open_store(directory)


def begun(directory: Path, about: About, n: int) -> Index:
    """What is there of the store, or the beginning of one; what a killed writer left half done is removed.

    Raises:
      InputError: another store lies there, or a shard of this one is damaged.
    """
    index = Index(about, (), n)
    if (directory / INDEX).exists():
        there = read_index(directory)
        if differences := different(as_json(there)["about"], as_json(index)["about"]):
            raise InputError(f"{directory} holds another store: {differences}; choose another directory, or remove it")
        for shard in there.shards:
            check_size(directory, shard)
        index = there._replace(planned=max(n, there.stretches))
    for left in directory.glob(".*.tmp"):
        left.unlink()
    write_json(directory / INDEX, as_json(index))
    return index


def different(there: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> str:
    """In words, what of a description is not what is asked for; what is derived from the rest is left out of it."""
    found = []
    for name in sorted({*there, *asked} - {"model", "mean"}):
        held, wanted = there.get(name), asked.get(name)
        if isinstance(held, Mapping) and isinstance(wanted, Mapping):
            found += [different(held, wanted, f"{prefix}{name}.")]
        elif held != wanted and not (isinstance(held, list | tuple) and list(held) == list(wanted or ())):
            found += [f"{prefix}{name} = {held!r}, not {wanted!r}"]
    return "; ".join(filter(None, found))


def in_advance(make: Callable[[int], Any], first: int, n: int) -> Iterator[tuple[int, Any]]:
    """(b, make(b)) for first <= b < n, each asked for before the one before it is used."""
    waiting = make(first) if first < n else None
    for b in range(first, n):
        ready, waiting = waiting, make(b + 1) if b + 1 < n else None
        yield b, ready


def sound(about: About, rows: Mapping[str, Any], b: int, file: str) -> Rows:
    """The rows of a stretch as they are written.

    Raises:
      InputError: they are not what the store holds, or not finite in its dtype.
    """
    if set(rows) != set(about.places):
        raise InputError(f"stretch {b} has {sorted(rows)}; the store holds {sorted(about.places)}")
    made = {}
    for name, x in rows.items():
        if x.shape[-1] != about.widths[name]:
            raise InputError(f"stretch {b}: {about.place(name)} is {x.shape[-1]} wide, not {about.widths[name]}")
        with np.errstate(over="ignore"):
            made[name] = np.asarray(x).reshape(-1, x.shape[-1]).astype(DTYPES[about.dtype], copy=False)
        if not (finite := np.isfinite(made[name])).all():
            at = int(np.argmin(finite.all(1)))
            raise InputError(
                f"{file}: row {at} of stretch {b} of {about.place(name)} is not finite in {about.dtype}: "
                "it was not written"
            )
    if len({len(x) for x in made.values()}) != 1:
        raise InputError(f"stretch {b}: its places have { {name: len(x) for name, x in made.items()} } rows")
    return made


def name_of(index: Index) -> str:
    """The file of the next shard."""
    return f"{len(index.shards):08d}.safetensors"


def write_shard(directory: Path, index: Index, made: list[Rows]) -> Shard:
    """Write the stretches of a shard, hashed on the way.

    Raises:
      InputError: the disk is too small for it.
    """
    file, digest = directory / name_of(index), hashlib.sha256()
    arrays = [rows[name] for name in index.about.places for rows in made]
    n = sum(len(rows[next(iter(rows))]) for rows in made)
    begin = header(index.about, n)
    size = len(begin) + sum(x.nbytes for x in arrays)
    if shutil.disk_usage(directory).free < size:
        raise InputError(disk_full(file))
    with atomic(file) as content:
        for part in (begin, *(np.ascontiguousarray(x).view(np.uint8).data for x in arrays)):
            content.write(part)
            digest.update(part)
    return Shard(file.name, len(made), n, size, digest.hexdigest())


def header(about: About, n: int) -> bytes:
    """What a shard of n rows begins with: its length, and {name: dtype, shape, bytes from … to}, which `safetensors` would copy
    all of the data to write.
    """
    entries, begin = {}, 0
    for name, width in ((name, about.widths[name]) for name in about.places):
        end = begin + n * width * DTYPES[about.dtype].itemsize
        entries[name] = {"dtype": CODES[about.dtype], "shape": [n, width], "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH)
    return len(text).to_bytes(LENGTH, "little") + text
