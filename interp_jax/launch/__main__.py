"""`python -m interp_jax.launch [ENGINE …]`: what the scripts in launch/ start; without arguments it lists what there is."""

import ast
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from interp_jax.errors import InputError, nearest
from interp_jax.experiments.exit import exit_cleanly

ENGINES = {
    "local": "interp_jax.experiments.main",
    "worker": "interp_jax.experiments.worker",
    "collect": "interp_jax.experiments.collector",
    "table": "interp_jax.experiments.table",
    **{name: f"interp_jax.launch.{name}" for name in ("plan", "slurm", "tpu", "kubernetes", "status", "scaling")},
}


def described(module: str) -> str:
    """The first line of a module's docstring, without importing it."""
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    return (ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8"))) or "").partition("\n")[0]


def main(arguments: Sequence[str]) -> None:
    """Start the engine that the first argument names, with the others as its own.

    Raises:
      InputError: there is no engine of that name.
    """
    if not arguments:
        print("usage: ./launch/ENGINE …")
        print("\n".join(f"  {name:<12} {described(module)}" for name, module in ENGINES.items()))
        return
    name, *rest = arguments
    if name not in ENGINES:
        raise InputError(f"there is no engine {name!r}; {nearest(name, ENGINES)}")
    importlib.import_module(ENGINES[name]).main(rest)


if __name__ == "__main__":
    exit_cleanly(main)
