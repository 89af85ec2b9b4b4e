"""What a store of activations says of itself: `store.json`, which lists its shards; see `store_io.py`."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from interp_jax.activations.harvest import Place
from interp_jax.data.paths_io import absence, names_in, read_json, shown
from interp_jax.errors import InputError, nearest

INDEX = "store.json"
FORMAT, VERSION = "interp_jax.activations", 1
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}


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
