"""Checkpoints that can be trusted: written whole or not at all, and verified bit by bit when they are read.

    <directory>/<step>/              a checkpoint: what Orbax writes, and
    <directory>/<step>/sidecar.json  SHA-256 of every file and every leaf, shapes, dtypes, the config's hash
    <directory>/<step>.bad/          a checkpoint that failed its verification, out of the way
    <directory>/.writing/            a save or a removal in progress; what `kill -9` leaves here is swept by the next one

A checkpoint is built in `.writing` and takes its place in one rename, sidecar included, so one without a sidecar does not
exist. The sidecar is there because Orbax does not notice a flipped bit. Files are verified before Orbax opens them, so that
it never meets damaged bytes, and leaves after it read them. Leaves are stored under their path in the tree: where they live is
decided on restore, by the shardings of the tree that the caller gives, on whatever devices and processes there are then.

Leaves that lie over several processes are written by all of them, each its part, and read likewise: every process calls `save`
and `load`, and the first one alone does what is done once.
"""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from interp_jax.atomic_io import DISK_FULL, disk_full, explained, sync_directory, write_json
from interp_jax.errors import InputError
from interp_jax.results.orbax_io import lies_apart, meet, opened
from interp_jax.results.sidecar import (
    CHANGED,
    SIDECAR,
    BadCheckpoint,
    check_leaves,
    described,
    file_digests,
    kind_of,
    named_leaves,
    read_sidecar,
    sha256,
)

__all__ = ["SIDECAR", "BadCheckpoint", "CheckpointStore", "Restored"]

WRITING = ".writing"
ROOM, ROOM_PER_LEAF = 128 * 1024, 8 * 1024  # of a checkpoint, in bytes, beside its arrays

logger = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A checkpoint that was verified: its step and its tree."""

    step: int
    tree: Any


class CheckpointStore:
    """The checkpoints of one chunk of members. `save` and `restore` are for its one writer; the rest only reads."""

    def __init__(self, directory: str | Path, config_hash: str, keep_last: int = 2) -> None:
        self.directory = Path(directory).absolute()
        self.config_hash = config_hash
        self.keep_last = keep_last

    def steps(self) -> list[int]:
        """Steps of the checkpoints that exist, increasing; their leaves are not verified yet."""
        sidecars = self.directory.glob(f"*/{SIDECAR}")
        return sorted(int(sidecar.parent.name) for sidecar in sidecars if sidecar.parent.name.isdecimal())

    def save(self, step: int, tree: Any, keep: bool = False) -> None:
        """Writes a checkpoint, replacing one of the same step; returns when it is on the disk.

        Args:
          step: steps taken so far.
          tree: any pytree of arrays; float, integer and bool of any width, bfloat16, sharded or not.
          keep: never removed; the others give way to the newest `keep_last`.

        Raises:
          InputError: disk full, directory not writable.
        """
        together = lies_apart(tree)
        leaves = named_leaves(tree if together else jax.tree.map(np.asarray, jax.device_get(tree)))
        with explained(self.directory / str(step)):
            if first := not together or jax.process_index() == 0:
                self._sweep()
                self._check_room(step, leaves)
            meet(together, f"begin {step}")
            written = self._write(step, leaves, together)
            if first:
                write_json(written / SIDECAR, described(leaves, file_digests(written), self.config_hash, keep))
                self._take_place(written, step)
            meet(together, f"end {step}")

    def _take_place(self, written: Path, step: int) -> None:
        self._retire(step)
        os.replace(written, self.directory / str(step))
        sync_directory(self.directory)
        shutil.rmtree(self.directory / f"{step}.bad", ignore_errors=True)
        self._prune()
        self._sweep()

    def restore(self, like: Any) -> Restored | None:
        """The newest good checkpoint, or None. Bad ones are named in a warning of one line each and renamed `<step>.bad`.

        Args:
          like: a tree of arrays or `jax.ShapeDtypeStruct`: structure, shapes, dtypes and shardings of the result.

        Raises:
          InputError: made by another config, or for a tree of other leaves.
        """
        return self._newest_good(lambda step: self.load(step, like))

    def newest(self) -> int | None:
        """The step of the newest checkpoint whose files are as they were saved, or None; bad ones as in `restore`."""
        found = self._newest_good(self._verified)
        return None if found is None else found.step

    def _newest_good(self, read: Callable[[int], Any]) -> Restored | None:
        self._sweep()
        for path in sorted(self._step_directories(), key=lambda path: -int(path.name)):
            step = int(path.name)
            try:
                return Restored(step, read(step))
            except BadCheckpoint as problem:
                logger.warning(
                    "checkpoint %d in %s is bad (%s); going back to the one before", step, path.parent, problem
                )
                shutil.rmtree(f"{path}.bad", ignore_errors=True)
                os.replace(path, f"{path}.bad")
        return None

    def load(self, step: int, like: Any) -> Any:
        """The verified tree of one checkpoint, laid out as `like`.

        Where that is over several processes, each reads its part, and one of them has verified the files (`newest`).

        Raises:
          BadCheckpoint: it is damaged or does not exist.
          InputError: made by another config, or for a tree of other leaves.
        """
        path = self.directory / str(step)
        return self._load_parts(step, like) if lies_apart(like) else _laid_out(self._read(step), like, path)

    def load_branch(self, step: int, name: str, like: Any) -> Any:
        """What lies under `name` in the verified tree of one checkpoint, laid out as `like`; errors are those of `load`."""
        stem = f"{name}."
        leaves = {leaf[len(stem) :]: array for leaf, array in self._read(step).items() if leaf.startswith(stem)}
        return _laid_out(leaves, like, self.directory / str(step))

    def check(self, step: int) -> str | None:
        """What is wrong with a checkpoint, in one line, or None."""
        try:
            self._read(step)
        except BadCheckpoint as problem:
            return str(problem)
        return None

    def _check_room(self, step: int, leaves: dict[str, Any]) -> None:
        """Refuse a disk that would fill up half way: Orbax's threads report that on their own, in many words."""
        self.directory.mkdir(parents=True, exist_ok=True)
        needed = ROOM + sum(leaf.nbytes + ROOM_PER_LEAF for leaf in leaves.values())
        if shutil.disk_usage(self.directory).free < needed:
            raise InputError(disk_full(self.directory / str(step)))

    def _write(self, step: int, leaves: dict[str, Any], together: bool) -> Path:
        stored = {name: leaf for name, leaf in leaves.items() if leaf.size}  # Orbax refuses arrays without elements
        try:
            with opened(self.directory / WRITING, together) as manager:
                manager.save(step, args=ocp.args.StandardSave(stored), force=True)
        except Exception as error:  # the storage library wraps the operating system's error in types of its own
            if any(os.strerror(number) in str(error) for number in DISK_FULL):
                self._sweep()
                raise InputError(disk_full(self.directory / str(step))) from error
            raise
        return self.directory / WRITING / str(step)

    def _verified(self, step: int) -> dict[str, Any]:
        """The sidecar of a checkpoint whose files are as it says."""
        sidecar = read_sidecar(self.directory / str(step), self.config_hash)
        found = file_digests(self.directory / str(step))
        for name, digest in sidecar["files"].items():
            if found.get(name) != digest:
                raise BadCheckpoint(f"file {name}: " + (CHANGED if name in found else "missing"))
        return sidecar

    def _read(self, step: int) -> dict[str, np.ndarray]:
        sidecar = self._verified(step)
        blank = {
            name: np.broadcast_to(np.zeros((), leaf["dtype"]), leaf["shape"])
            for name, leaf in sidecar["leaves"].items()
        }
        leaves = blank | self._restored(step, {name: leaf for name, leaf in blank.items() if leaf.size}, False)
        for name, leaf in sidecar["leaves"].items():
            if leaf["sha256"] not in (None, sha256(leaves[name])):
                raise BadCheckpoint(f"leaf {name}: {CHANGED}")
        return leaves

    def _load_parts(self, step: int, like: Any) -> Any:
        path, wanted = self.directory / str(step), named_leaves(like)
        saved = read_sidecar(path, self.config_hash)["leaves"]
        check_leaves({name: f"{leaf['dtype']}{leaf['shape']}" for name, leaf in saved.items()}, wanted, path)
        blank = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in wanted.items()}
        empty = {name: np.zeros(x.shape, x.dtype) for name, x in wanted.items() if not np.prod(x.shape)}
        leaves = self._restored(step, {name: x for name, x in blank.items() if name not in empty}, True)
        leaves |= {name: jax.device_put(x, wanted[name].sharding) for name, x in empty.items()}
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in wanted])

    def _restored(self, step: int, stored: dict[str, Any], together: bool) -> dict[str, Any]:
        try:
            with opened(self.directory, together) as manager:
                return manager.restore(step, args=ocp.args.StandardRestore(stored))
        except Exception as error:  # whatever a damaged file makes of Orbax, the answer is the checkpoint before
            raise BadCheckpoint(f"unreadable: {_first_line(error)}") from error

    def _step_directories(self) -> list[Path]:
        found = self.directory.iterdir() if self.directory.is_dir() else ()
        return [path for path in found if path.name.isdecimal()]

    def _prune(self) -> None:
        passing = [step for step in self.steps() if not self._is_kept(step)]
        for step in passing[: max(len(passing) - self.keep_last, 0)]:
            self._retire(step)

    def _is_kept(self, step: int) -> bool:
        try:
            return read_sidecar(self.directory / str(step), self.config_hash)["keep"]
        except BadCheckpoint:
            return True  # it is for `restore` to say what is wrong with it

    def _retire(self, step: int) -> None:
        path = self.directory / str(step)
        if path.exists():
            os.replace(path, self.directory / WRITING / f"{step}.old")

    def _sweep(self) -> None:
        shutil.rmtree(self.directory / WRITING, ignore_errors=True)


def _laid_out(leaves: dict[str, np.ndarray], like: Any, path: Path) -> Any:
    wanted = named_leaves(like)
    check_leaves({name: kind_of(leaf) for name, leaf in leaves.items()}, wanted, path)
    placed = [_place(leaves[name], leaf) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), placed)


def _place(array: np.ndarray, like: Any) -> Any:
    if isinstance(like, np.ndarray | np.generic):
        return array
    committed = getattr(like, "committed", True)
    return jax.device_put(array, like.sharding if committed else None)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
