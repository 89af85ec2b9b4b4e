"""A frozen sweep as engines read it: which chunks there are and what is done of them, without JAX and in a moment.

`sweep.json` holds the configs of all members, the chunks, the state of the checkout, and a digest over all of that.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from interp_jax.errors import InputError
from interp_jax.results.run_directory import ChunkDirectory, chunk_directory, read_json

FILE = "sweep.json"
KEYS = ("experiment", "source", "redo", "members", "chunks", "digest")


class Chunk(NamedTuple):
    """Members that run together.

    Attributes:
      id: of the chunk.
      members: their hashes, in order.
      wave: of the plan's chunks, those with the same number read one stream, and go on in step.
    """

    id: str
    members: tuple[str, ...]
    wave: int = 0


class FrozenSweep(NamedTuple):
    """What a `sweep.json` says.

    Attributes:
      path: of the file.
      digest: of its content.
      experiment: the module whose report the sweep ends with.
      source: the words of the command that made it.
      redo: the token that finished chunks must carry to count, or empty.
      configs: {member hash: its config}, of all members.
      chunks: those that were to run when it was frozen.
    """

    path: Path
    digest: str
    experiment: str
    source: str
    redo: str
    configs: dict[str, dict[str, Any]]
    chunks: tuple[Chunk, ...]

    @property
    def directory(self) -> Path:
        """Where its results are."""
        return self.path.parent

    def place(self, chunk: Chunk) -> ChunkDirectory:
        """The directory of a chunk."""
        return chunk_directory(self.directory, chunk.id)

    def config(self, chunk: Chunk) -> dict[str, Any]:
        """The config of a chunk's first member."""
        return self.configs[chunk.members[0]]

    def open_chunks(self) -> list[tuple[int, Chunk]]:
        """The chunks that are not finished, with their indices."""
        return [(i, c) for i, c in enumerate(self.chunks) if not is_done(self.redo, self.place(c))]


def sweep_file(path: Path) -> Path:
    """The `sweep.json` that a path names: itself, or in that directory."""
    return (path / FILE if path.is_dir() else path).absolute()


def read_frozen(path: Path) -> FrozenSweep:
    """The sweep in a `sweep.json`, or in the directory that holds one.

    Raises:
      InputError: no such file, damaged, or edited after it was frozen.
    """
    path = sweep_file(path)
    if not path.is_file():
        raise InputError(f"no frozen sweep {path}: ./launch/plan --config … writes one")
    content = read_json(path, *KEYS)
    frozen = content.pop("digest")
    if frozen != digest(content):
        raise InputError(f"{path} was changed after it was frozen: start the sweep again from its config")
    chunks = tuple(Chunk(c["id"], tuple(c["members"]), c.get("wave", i)) for i, c in enumerate(content["chunks"]))
    return FrozenSweep(
        path, frozen, content["experiment"], content["source"], content["redo"], content["members"], chunks
    )


def made_by(directory: Path) -> dict[str, str]:
    """The command whose results are in a directory, and the commit that it was given at; {} where no sweep was frozen."""
    path = directory / FILE
    if not path.is_file():
        return {}
    content = read_json(path, "source", "git")
    return {"command": content["source"], "commit": (content["git"] or {}).get("commit") or "unknown"}


def is_done(redo: str, directory: ChunkDirectory) -> bool:
    """Whether a chunk is finished, and done again where the sweep asks for that by a token."""
    if not directory.manifest.exists():
        return False
    return not redo or read_json(directory.manifest).get("redo") == redo


def digest(content: Any) -> str:
    """SHA-256, 16 hex digits, of anything JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
