"""`python -m third_party.peers [NAME [arguments]]`: run one benchmark, or list what there is."""

import ast
import runpy
import sys
from pathlib import Path

from interp_jax.errors import InputError, nearest


def benchmarks() -> dict[str, str]:
    """Names of the benchmarks and the first line of each one's docstring, without importing any."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    docstrings = {file.stem: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) for file in files}
    return {name: (docstring or "").partition("\n")[0] for name, docstring in docstrings.items()}


def main(arguments: list[str]) -> None:
    """Run the benchmark that the first argument names, with the others as its own.

    Raises:
      InputError: there is no benchmark of that name.
    """
    known = benchmarks()
    if not arguments:
        print("usage: ./launch/peers NAME [--quick]")
        print("\n".join(f"  {name:<20} {line}" for name, line in known.items()) or "  (there is no benchmark yet)")
        return
    name, *rest = arguments
    if name not in known:
        raise InputError(f"there is no benchmark {name!r}; {nearest(name, known)}")
    import jax  # after the list of names, which needs no backend

    jax.config.update("jax_default_matmul_precision", "highest")  # float32 is float32, on accelerators too
    sys.argv = [name, *rest]
    runpy.run_module(f"third_party.peers.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"interp_jax: {error}", file=sys.stderr)
        sys.exit(2)
