"""What lies beside a checkpoint and makes it trusted: SHA-256 of every file and leaf, shapes, dtypes, the config's hash.

A leaf that lies over several processes has no digest of its own, since none of them has all of it: its files have theirs.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from interp_jax.errors import InputError

SIDECAR = "sidecar.json"
CHANGED = "changed since it was saved (its SHA-256 differs)"


class BadCheckpoint(ValueError):
    """A checkpoint that cannot be trusted; the message names the leaf or file and the problem."""


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves under their path in the tree: `params.W_in`, `opt_state.0.mu.W_in`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def file_digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint but its sidecar, by its path inside."""
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SIDECAR)
    return {path.relative_to(checkpoint).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def described(leaves: Mapping[str, Any], files: Mapping[str, str], config_hash: str, keep: bool) -> dict[str, Any]:
    """The content of a sidecar."""
    about = {
        name: {"sha256": sha256(leaf), "shape": list(leaf.shape), "dtype": np.dtype(leaf.dtype).name}
        for name, leaf in leaves.items()
    }
    content = {"config_hash": config_hash, "keep": keep, "files": files, "leaves": about}
    return {"sha256": sha256_of_json(content), "content": content}


def read_sidecar(checkpoint: Path, config_hash: str) -> dict[str, Any]:
    """What the sidecar of a checkpoint says.

    Raises:
      BadCheckpoint: it is damaged or does not exist.
      InputError: made by another config.
    """
    try:
        sidecar = json.loads((checkpoint / SIDECAR).read_bytes())
        intact = sidecar["sha256"] == sha256_of_json(sidecar["content"])
    except FileNotFoundError as error:
        raise BadCheckpoint(f"file {SIDECAR}: missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"file {SIDECAR}: not JSON") from error
    if not intact:
        raise BadCheckpoint(f"file {SIDECAR}: {CHANGED}")
    if sidecar["content"]["config_hash"] != config_hash:
        raise InputError(
            f"run directory {checkpoint.parent} was made by another config (hash {sidecar['content']['config_hash']}, "
            f"this one is {config_hash}); choose another directory, or remove this one"
        )
    return sidecar["content"]


def sha256(leaf: Any) -> str | None:
    """SHA-256 of a leaf's bytes; None where this process has not all of it."""
    if not isinstance(leaf, np.ndarray):
        return None
    return hashlib.sha256(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)).hexdigest()


def sha256_of_json(content: Any) -> str:
    """SHA-256 of anything JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def kind_of(leaf: Any) -> str:
    """Dtype and shape of an array, in words."""
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def check_leaves(saved: Mapping[str, str], wanted: Mapping[str, Any], path: Path) -> None:
    """Raise `InputError` where the kinds of saved leaves are not those of the leaves that are wanted."""
    for name in sorted(wanted.keys() ^ saved.keys()):
        place = "not in it" if name in wanted else "not in this program's state"
        raise InputError(f"checkpoint {path} was made by another version of the program: leaf {name} is {place}")
    for name, leaf in wanted.items():
        if saved[name] != (now := kind_of(leaf)):
            raise InputError(
                f"checkpoint {path} was made by another version of the program: leaf {name} is {saved[name]}, not {now}"
            )
