"""Where a job's results lie. The unit on disk is the chunk: members that ran together as one population.

<directory>/sweep.json                      the frozen plan
<directory>/report.html  plotly.min.js      what a person opens
<directory>/chunks/<id>/chunk.json          its members' hashes and how they are batched, fixed before it starts
<directory>/chunks/<id>/metrics.jsonl       means over spans of steps
<directory>/chunks/<id>/observations/<step>.npz
<directory>/chunks/<id>/checkpoints/<step>/
<directory>/chunks/<id>/manifest.json       written last: a chunk that has one is finished
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interp_jax.errors import InputError
from interp_jax.results.atomic import write_npz


class Finished(NamedTuple):
    """Where a finished member lies: its chunk's directory, its index there, and the chunk's manifest."""

    directory: "ChunkDirectory"
    index: int
    manifest: dict[str, Any]


class ChunkDirectory:
    """The paths of one chunk."""

    def __init__(self, path: Path):
        self.path = path
        self.description = path / "chunk.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.manifest = path / "manifest.json"

    def write_observation(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep what was observed at a step, arrays with a leading member axis."""
        write_npz(self.path / "observations" / f"{step:08d}.npz", arrays)

    def observations(self) -> dict[int, dict[str, np.ndarray]]:
        """{step: {name: array}} of all observations, steps increasing."""
        paths = sorted((self.path / "observations").glob("*.npz"))
        return {int(p.stem): dict(np.load(p)) for p in paths}

    def discard(self) -> None:
        """Remove the chunk: it counts as never run."""
        self.manifest.unlink(missing_ok=True)
        shutil.rmtree(self.path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the chunk; yields False where another living process holds it. The lock dies with its process."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def chunk_directory(directory: Path, chunk_id: str) -> ChunkDirectory:
    """The directory of a chunk."""
    return ChunkDirectory(directory / "chunks" / chunk_id)


def finished_members(directory: Path) -> dict[str, Finished]:
    """{member hash: where it lies} for all finished chunks under `directory`."""
    found: dict[str, Finished] = {}
    for path in sorted(directory.glob("chunks/*/manifest.json")):
        manifest = read_json(path)
        chunk = ChunkDirectory(path.parent)
        found |= {h: Finished(chunk, i, manifest) for i, h in enumerate(manifest["members"])}
    return found


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
      InputError: it is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged, line {error.lineno}: {error.msg}; remove it and start again") from None
