"""The processes of `patching.py`: a worker per version of TransformerLens, each in the Python of its own environment.

3.x is in the environment that `./launch/peers` runs in. 4.x conflicts with it, and has one that is made on first use from
`requirements-lens4.txt`; INTERP_JAX_LENS4_PYTHON, where it is set, is taken instead.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO, cast

ROOT = Path(__file__).parents[2]
MODULE = "third_party.peers._patching_torch"


class Unavailable(Exception):
    """A worker that cannot start, and why."""


class Worker:
    """A process that holds a model of one version of TransformerLens and answers requests, one at a time.

    Raises:
      Unavailable: its Python does not hold what it needs.
    """

    def __init__(self, python: str, directory: str, device: str):
        self.log = tempfile.TemporaryFile("w+")
        command = [python, "-m", MODULE, "serve", directory, device]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT
        )
        self.version: str = self.read()["version"]

    def ask(self, grid: str, batch: int, cells: list[list[int]] | None = None) -> dict[str, Any]:
        """Values and seconds of a grid, or of some of its cells."""
        stdin = cast(TextIO, self.process.stdin)
        stdin.write(json.dumps({"grid": grid, "batch": batch, "cells": cells}) + "\n")
        stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """The next answer."""
        if line := cast(TextIO, self.process.stdout).readline():
            return json.loads(line)
        self.log.seek(0)
        raise Unavailable(last_line(self.log.read()))

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def last_line(text: str) -> str:
    """What a program said last."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def make_weights(directory: str, shape: dict[str, int]) -> None:
    """A random GPT-2 of this shape, as transformers saves it.

    Raises:
      Unavailable: this Python does not hold transformers.
    """
    command = [sys.executable, "-m", MODULE, "make", directory, json.dumps(shape)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        raise Unavailable(last_line(ended.stderr))


def lens3_python() -> str:
    """The Python that holds TransformerLens 3.x: this one."""
    return sys.executable


def lens4_python() -> str:
    """The Python that holds TransformerLens 4.x; its environment is made where there is none.

    Raises:
      Unavailable: it cannot be made.
    """
    if given := os.environ.get("INTERP_JAX_LENS4_PYTHON"):
        return given
    command = 'source launch/environment.sh && use_environment lens4 && echo "$PYTHON"'
    environ = {name: value for name, value in os.environ.items() if name != "INTERP_JAX_PYTHON"}
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        raise Unavailable("no environment with TransformerLens 4.x could be made; see above")
    return ended.stdout.strip()
