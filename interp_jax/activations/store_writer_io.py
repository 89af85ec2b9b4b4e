"""Writes a store (format: see `store_io.py`), one shard after the other, each of whole stretches of activations.

    DIR/00000003.safetensors.json      what `store.json` will say of a shard, until it does

A shard takes its name when it is on disk whole, has its record after that, and is listed once those before it are. Stretches
are functions of their number alone; so a writer that was killed goes on after what it recorded, and ends with the same bytes.
Several processes write every so many shards each, and the first of them lists them.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Shaped

from interp_jax.activations.store_index_io import DTYPES, INDEX, About, Index, Shard, as_json, check_size, read_index
from interp_jax.activations.store_io import LENGTH, Rows, Store, open_store
from interp_jax.atomic_io import atomic, disk_full, ensure_writable, write_json
from interp_jax.data.paths_io import expanded, read_json
from interp_jax.errors import InputError

CODES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # of safetensors
Stretch = Callable[[int], Mapping[str, Shaped[Array, "... D"] | Shaped[np.ndarray, "... D"]]]


class Writer(NamedTuple):
    """One of `count` processes that write a store together: its number, and how it waits until all are at one place."""

    index: int = 0
    count: int = 1
    meet: Callable[[str], None] = lambda where: None


ALONE = Writer()


def write_store(
    directory: str | Path, about: About, stretch: Stretch, n: int, per_shard: int = 1, writer: Writer = ALONE
) -> Store:
    """Write the stretches 0 … n - 1, or those of them that are not there yet.

    Args:
      directory: where to; made if missing.
      about: what is written.
      stretch: b -> {name: rows}, a function of b alone. It is asked for the next one before the last is written, so that a
        device works meanwhile.
      n: how many.
      per_shard: stretches of a shard.
      writer: which of several processes this is, that all call this.

    Raises:
      InputError: the directory holds another store or cannot be written; a row that is not finite; the disk is too small.
    """
    if n < 1 or per_shard < 1:
        raise InputError(f"{n} stretches, {per_shard} in a shard: both must be at least 1")
    directory = ensure_writable(expanded(directory))
    writer.meet("a store's directory is there")  # what is half written there is removed next
    if writer.index == 0:
        begun(directory, about, n)
    writer.meet("a store is begun")
    mine = to_write(directory, read_index(directory), n, per_shard)[writer.index :: writer.count]
    writer.meet("its shards are shared out")
    ahead = in_advance(stretch, [b for _, numbers in mine for b in numbers])
    for file, numbers in mine:
        made = [sound(about, rows, b, str(file)) for b, rows in itertools.islice(ahead, len(numbers))]
        record(file, numbers[0], write_shard(file, about, made))
        if writer.index == 0:
            listed(directory)
    writer.meet("a store is written")
    if writer.index == 0:
        listed(directory)
    writer.meet("a store is listed")
    return open_store(directory)


def to_write(directory: Path, index: Index, n: int, per_shard: int) -> list[tuple[Path, range]]:
    """(file, its stretches) of the shards that are neither listed nor recorded."""
    starts = range(index.stretches, n, per_shard)
    shards = [
        (directory / name_of(len(index.shards) + i), range(b, min(b + per_shard, n))) for i, b in enumerate(starts)
    ]
    return [(file, numbers) for file, numbers in shards if recorded(file) != (numbers[0], len(numbers))]


def record(file: Path, first: int, shard: Shard) -> None:
    """Keep what is to be listed of a shard, beside it."""
    write_json(record_of(file), {"first": first, "shard": shard._asdict()})


def recorded(file: Path) -> tuple[int, int] | None:
    """First stretch and number of stretches of a shard that has its record; None where it has none."""
    if not record_of(file).exists():
        return None
    content = read_json(record_of(file))
    return content["first"], content["shard"]["stretches"]


def record_of(file: Path) -> Path:
    """The record of a shard."""
    return file.with_name(f"{file.name}.json")


def listed(directory: Path) -> Index:
    """The index, after the shards that have their records, and none missing before them, were listed in it."""
    index, files = read_index(directory), []
    while recorded(file := directory / name_of(len(index.shards))):
        content = read_json(record_of(file))
        if content["first"] != index.stretches:
            break
        index = index._replace(shards=(*index.shards, Shard(**content["shard"])))
        files.append(file)
    if files:
        write_json(directory / INDEX, as_json(index))
    for file in files:
        record_of(file).unlink()
    return index


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
        there = listed(directory)
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


def in_advance(make: Callable[[int], Any], numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """(b, make(b)) for each number, each asked for before the one before it is used."""
    waiting = make(numbers[0]) if numbers else None
    for i, b in enumerate(numbers):
        ready, waiting = waiting, make(numbers[i + 1]) if i + 1 < len(numbers) else None
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


def name_of(number: int) -> str:
    """The file of a shard."""
    return f"{number:08d}.safetensors"


def write_shard(file: Path, about: About, made: list[Rows]) -> Shard:
    """Write the stretches of a shard, hashed on the way.

    Raises:
      InputError: the disk is too small for it.
    """
    digest = hashlib.sha256()
    arrays = [rows[name] for name in about.places for rows in made]
    n = sum(len(rows[next(iter(rows))]) for rows in made)
    begin = header(about, n)
    size = len(begin) + sum(x.nbytes for x in arrays)
    if shutil.disk_usage(file.parent).free < size:
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
