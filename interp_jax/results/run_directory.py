"""Where a job's results lie. The unit on disk is the chunk: members that ran together as one population.

<directory>/sweep.json                      the frozen plan
<directory>/report.html  plotly.min.js      what a person opens
<directory>/chunks/<id>/chunk.json          its members' hashes and how they are batched, fixed before it starts
<directory>/chunks/<id>/metrics.jsonl       means over spans of steps
<directory>/chunks/<id>/observations/<step>.npz
<directory>/chunks/<id>/checkpoints/<step>/
<directory>/chunks/<id>/manifest.json       written last: a chunk that has one is finished
<directory>/chunks/<id>/failure.json        why it failed, where its last try did
<directory>/chunks/<id>.lock                held by the process that runs the chunk, with its name in it
<directory>/chunks/<id>.old/                a finished chunk that is being done again, until the new one is finished
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interp_jax.atomic_io import write_npz
from interp_jax.errors import InputError

LOCK_TRIES, LOCK_PAUSE = 5, 0.1  # seconds: somebody who looks whether a chunk is held holds it for an instant


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
        self.failure = path / "failure.json"

    def write_observation(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep what was observed at a step, arrays with a leading member axis."""
        write_npz(self.path / "observations" / f"{step:08d}.npz", arrays)

    def observations(self) -> dict[int, dict[str, np.ndarray]]:
        """{step: {name: array}} of all observations, steps increasing."""
        paths = sorted((self.path / "observations").glob("*.npz"))
        if not paths:
            raise InputError(f"{self.path} has lost its observations: remove it, and the same command makes it again")
        return {int(p.stem): _read_arrays(p) for p in paths}

    def set_aside(self) -> None:
        """Move a finished chunk to `<id>.old`, where its results still count until it has been done again."""
        old = self.path.with_name(f"{self.path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        self.path.rename(old)

    def forget_old(self) -> None:
        """Remove what was set aside."""
        shutil.rmtree(self.path.with_name(f"{self.path.name}.old"), ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the chunk; yields False where another living process holds it. The lock dies with its process."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._lock_file, "a") as file:
            if not _locked(file, fcntl.LOCK_EX, LOCK_TRIES):
                yield False
                return
            file.truncate(0)
            file.write(f"{socket.gethostname()}, process {os.getpid()}")
            file.flush()
            yield True

    def holder(self) -> str | None:
        """The living process that holds the chunk, in words, or None."""
        try:
            with open(self._lock_file) as file:
                return None if _locked(file, fcntl.LOCK_SH, 1) else file.read() or "another process"
        except FileNotFoundError:
            return None

    @property
    def _lock_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")


def _locked(file: Any, kind: int, tries: int) -> bool:
    """Whether an open file could be locked."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if left:
                time.sleep(LOCK_PAUSE)
    return False


def chunk_directory(directory: Path, chunk_id: str) -> ChunkDirectory:
    """The directory of a chunk."""
    return ChunkDirectory(directory / "chunks" / chunk_id)


def finished_members(directory: Path) -> dict[str, Finished]:
    """{member hash: where it lies} for all finished chunks under `directory`."""
    found: dict[str, Finished] = {}
    for path in sorted(
        directory.glob("chunks/*/manifest.json"), key=lambda p: p.stat().st_mtime_ns
    ):  # the newest counts
        manifest = read_json(path, "members", "diverged_at", "seconds", "git")
        chunk = ChunkDirectory(path.parent)
        found |= {h: Finished(chunk, i, manifest) for i, h in enumerate(manifest["members"])}
    return found


def read_json(path: Path, *required: str) -> Any:
    """The content of a JSON file.

    Args:
      path: of the file.
      *required: keys that it must have.

    Raises:
      InputError: it cannot be read, is not JSON, or lacks a key.
    """
    try:
        content = json.loads(path.read_text())
        if missing := [key for key in required if key not in content]:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): remove it and give the same command again") from None
    return content


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        return dict(np.load(path))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        chunk = path.parent.parent
        raise InputError(f"{path} is damaged ({error}): remove {chunk}, and the same command makes it again") from None
