"""The linter's house rules bite: what a model may not use, and where printing is allowed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rules(code: str, path: str) -> set[str]:
    """Rules that ruff finds broken by `code`, were it the file at `path`."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--output-format=json",
        f"--stdin-filename={path}",
        "-",
    ]
    done = subprocess.run(command, cwd=ROOT, input=f'"""A module."""\n\n{code}\n', capture_output=True, text=True)
    return {finding["code"] for finding in json.loads(done.stdout)}


@pytest.mark.parametrize("name", ["lax.scan", "lax.cond", "checkpoint", "remat", "jit"])
def test_models_leave_loops_and_jit_to_others(name):
    code = f"import jax\n\nwhat = jax.{name}"
    assert rules(code, "interp_jax/models/new.py") == {"TID251"}
    assert rules(code, "interp_jax/train/new.py") == set()


@pytest.mark.parametrize(
    ("path", "found"),
    [("interp_jax/train/new.py", {"T201"}), ("interp_jax/experiments/new.py", set()), ("third_party/new.py", set())],
)
def test_only_the_rim_prints(path, found):
    assert rules('print("here")', path) == found


def test_shapes_are_no_names():
    code = 'from jaxtyping import Array, Float\n\nx: Float[Array, "B P D"] | Float[Array, "B"]'
    assert rules(code, "interp_jax/train/new.py") == set()
