"""Checkpoints that can be trusted: written whole or not at all, and verified bit by bit when they are read.

    <directory>/<step>/              a checkpoint: what Orbax writes, and
    <directory>/<step>/sidecar.json  SHA-256 of every file and every leaf, shapes, dtypes, the config's hash
    <directory>/<step>.bad/          a checkpoint that failed its verification, out of the way
    <directory>/.writing/            a save or a removal in progress; what `kill -9` leaves here is swept by the next one

A checkpoint is built in `.writing` and takes its place in one rename, sidecar included, so one without a sidecar does not
exist. The sidecar is there because Orbax does not notice a flipped bit. Files are verified before Orbax opens them, so that
it never meets damaged bytes, and leaves after it read them. Leaves are stored as host arrays under their path in the tree:
where they live is decided on restore, by the shardings of the tree that the caller gives.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from interp_jax.atomic_io import DISK_FULL, disk_full, explained, sync_directory, write_json
from interp_jax.errors import InputError

SIDECAR = "sidecar.json"
WRITING = ".writing"
ROOM, ROOM_PER_LEAF = 128 * 1024, 8 * 1024  # of a checkpoint, in bytes, beside its arrays
CHANGED = "changed since it was saved (its SHA-256 differs)"

logger = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A checkpoint that was verified: its step and its tree."""

    step: int
    tree: Any


class BadCheckpoint(ValueError):
    """A checkpoint that cannot be trusted; the message names the leaf or file and the problem."""


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
        leaves = _named_leaves(jax.tree.map(np.asarray, jax.device_get(tree)))
        with explained(self.directory / str(step)):
            self._sweep()
            self._check_room(step, leaves)
            written = self._write(step, leaves)
            write_json(written / SIDECAR, _sidecar(leaves, _files(written), self.config_hash, keep))
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
        self._sweep()
        for path in sorted(self._step_directories(), key=lambda path: -int(path.name)):
            step = int(path.name)
            try:
                return Restored(step, self.load(step, like))
            except BadCheckpoint as problem:
                logger.warning(
                    "checkpoint %d in %s is bad (%s); going back to the one before", step, path.parent, problem
                )
                shutil.rmtree(f"{path}.bad", ignore_errors=True)
                os.replace(path, f"{path}.bad")
        return None

    def load(self, step: int, like: Any) -> Any:
        """The verified tree of one checkpoint, laid out as `like`.

        Raises:
          BadCheckpoint: it is damaged or does not exist.
          InputError: made by another config, or for a tree of other leaves.
        """
        return _laid_out(self._read(step), like, self.directory / str(step))

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

    def _check_room(self, step: int, leaves: dict[str, np.ndarray]) -> None:
        """Refuse a disk that would fill up half way: Orbax's threads report that on their own, in many words."""
        self.directory.mkdir(parents=True, exist_ok=True)
        needed = ROOM + sum(leaf.nbytes + ROOM_PER_LEAF for leaf in leaves.values())
        if shutil.disk_usage(self.directory).free < needed:
            raise InputError(disk_full(self.directory / str(step)))

    def _write(self, step: int, leaves: dict[str, np.ndarray]) -> Path:
        stored = {name: leaf for name, leaf in leaves.items() if leaf.size}  # Orbax refuses arrays without elements
        try:
            with _manager(self.directory / WRITING) as manager:
                manager.save(step, args=ocp.args.StandardSave(stored), force=True)
        except Exception as error:  # the storage library wraps the operating system's error in types of its own
            if any(os.strerror(number) in str(error) for number in DISK_FULL):
                self._sweep()
                raise InputError(disk_full(self.directory / str(step))) from error
            raise
        return self.directory / WRITING / str(step)

    def _read(self, step: int) -> dict[str, np.ndarray]:
        sidecar = self._read_sidecar(step)
        found = _files(self.directory / str(step))
        for name, digest in sidecar["files"].items():
            if found.get(name) != digest:
                raise BadCheckpoint(f"file {name}: " + (CHANGED if name in found else "missing"))
        blank = {
            name: np.broadcast_to(np.zeros((), leaf["dtype"]), leaf["shape"])
            for name, leaf in sidecar["leaves"].items()
        }
        stored = {name: leaf for name, leaf in blank.items() if leaf.size}
        try:
            with _manager(self.directory) as manager:
                leaves = blank | manager.restore(step, args=ocp.args.StandardRestore(stored))
        except Exception as error:  # whatever a damaged file makes of Orbax, the answer is the checkpoint before
            raise BadCheckpoint(f"unreadable: {_first_line(error)}") from error
        for name, leaf in sidecar["leaves"].items():
            if _sha256(leaves[name]) != leaf["sha256"]:
                raise BadCheckpoint(f"leaf {name}: {CHANGED}")
        return leaves

    def _read_sidecar(self, step: int) -> dict[str, Any]:
        path = self.directory / str(step) / SIDECAR
        try:
            sidecar = json.loads(path.read_bytes())
            intact = sidecar["sha256"] == _sha256_of_json(sidecar["content"])
        except FileNotFoundError as error:
            raise BadCheckpoint(f"file {SIDECAR}: missing") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BadCheckpoint(f"file {SIDECAR}: not JSON") from error
        if not intact:
            raise BadCheckpoint(f"file {SIDECAR}: {CHANGED}")
        if sidecar["content"]["config_hash"] != self.config_hash:
            raise InputError(
                f"run directory {self.directory} was made by another config (hash {sidecar['content']['config_hash']}, "
                f"this one is {self.config_hash}); choose another directory, or remove this one"
            )
        return sidecar["content"]

    def _step_directories(self) -> list[Path]:
        found = self.directory.iterdir() if self.directory.is_dir() else ()
        return [path for path in found if path.name.isdecimal()]

    def _prune(self) -> None:
        passing = [step for step in self.steps() if not self._is_kept(step)]
        for step in passing[: max(len(passing) - self.keep_last, 0)]:
            self._retire(step)

    def _is_kept(self, step: int) -> bool:
        try:
            return self._read_sidecar(step)["keep"]
        except BadCheckpoint:
            return True  # it is for `restore` to say what is wrong with it

    def _retire(self, step: int) -> None:
        path = self.directory / str(step)
        if path.exists():
            os.replace(path, self.directory / WRITING / f"{step}.old")

    def _sweep(self) -> None:
        shutil.rmtree(self.directory / WRITING, ignore_errors=True)


@contextlib.contextmanager
def _manager(directory: Path) -> Iterator[ocp.CheckpointManager]:
    """Orbax, synchronous, without its advice on shardings and retention, which are decided here.

    Of several processes that run a chunk together one alone calls it, which must not make it wait for the others.
    """
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(process, {process}, f"process{process}")
    options = ocp.CheckpointManagerOptions(
        enable_async_checkpointing=False, save_root_metadata=False, create=False, multiprocessing_options=alone
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    directory.mkdir(parents=True, exist_ok=True)
    chatter = logging.getLogger("absl")
    level = chatter.level
    chatter.setLevel(logging.CRITICAL)  # what fails is raised, and says so in one line
    try:
        with ocp.CheckpointManager(directory, options=options, item_handlers=handler) as manager:
            yield manager
    finally:
        chatter.setLevel(level)


def _named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves under their path in the tree: `params.W_in`, `opt_state.0.mu.W_in`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def _files(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint but its sidecar, by its path inside."""
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SIDECAR)
    return {path.relative_to(checkpoint).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _sidecar(leaves: dict[str, np.ndarray], files: dict[str, str], config_hash: str, keep: bool) -> dict[str, Any]:
    described = {
        name: {"sha256": _sha256(leaf), "shape": list(leaf.shape), "dtype": leaf.dtype.name}
        for name, leaf in leaves.items()
    }
    content = {"config_hash": config_hash, "keep": keep, "files": files, "leaves": described}
    return {"sha256": _sha256_of_json(content), "content": content}


def _sha256(leaf: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)).hexdigest()


def _sha256_of_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _laid_out(leaves: dict[str, np.ndarray], like: Any, path: Path) -> Any:
    wanted = _named_leaves(like)
    for name in sorted(wanted.keys() ^ leaves.keys()):
        place = "not in it" if name in wanted else "not in this program's state"
        raise InputError(f"checkpoint {path} was made by another version of the program: leaf {name} is {place}")
    for name, leaf in wanted.items():
        if (saved := _describe(leaves[name])) != (now := _describe(leaf)):
            raise InputError(
                f"checkpoint {path} was made by another version of the program: leaf {name} is {saved}, not {now}"
            )
    placed = [_place(leaves[name], leaf) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), placed)


def _describe(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _place(array: np.ndarray, like: Any) -> Any:
    if isinstance(like, np.ndarray | np.generic):
        return array
    committed = getattr(like, "committed", True)
    return jax.device_put(array, like.sharding if committed else None)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
