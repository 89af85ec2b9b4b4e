"""The manifest of a chunk: all that is needed to know where its numbers came from.

Config and its hash, git commit, versions, devices, compiler flags, matmul precision, and the seconds it took.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from interp_jax.atomic_io import write_json

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
GIT_SECONDS = 10


def manifest(config: Mapping[str, Any], config_hash: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The manifest as plain data.

    Args:
      config: nested mapping, as given to the run.
      config_hash: its content hash.
      seconds: wall-clock time of each phase, e.g. {"compile": 3.1, "run": 71.0}.
    """
    devices = jax.devices()
    return {
        "config": config,
        "config_hash": config_hash,
        "command": sys.argv,
        "git": git_state(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": {"kind": devices[0].device_kind, "platform": devices[0].platform, "count": len(devices)},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "seconds": seconds,
    }


def write_manifest(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes a manifest as JSON, atomically."""
    write_json(path, content)


def git_state() -> dict[str, Any] | None:
    """Commit of the checkout that holds this package and whether it was changed since; None outside a checkout."""
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:  # installed inside some other project's checkout
        return None
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)} if commit and changes is not None else None


def _git(*arguments: str) -> str | None:
    package = Path(__file__).parent.parent
    try:
        command = ["git", "-C", str(package), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
