"""The command behind `./launch/local`: from a config to a report.

    python -m interp_jax.experiments.main --config configs/superposition.py:tiny --config.steps=500 --sweep plane

Load the config, expand the sweep, leave out what is finished, freeze the plan, run it, collect, report.
"""

import argparse
import ast
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from interp_jax.errors import InputError
from interp_jax.experiments.exit import exit_cleanly

ABOUT = """interp_jax: grow small models, look inside them, pull apart what overlaps.

  ./launch/local --config configs/NAME.py[:ARG]     run an experiment; ends with the path of its report
      --config.SECTION.KEY=VALUE                    change a value
      --sweep NAME                                  choose a sweep of the config file (several multiply; 'none' for one run)
      --rerun                                       do again what is finished
  ./launch/test                                     run every check
  ./launch/peers NAME                               run a benchmark against other projects' packages

Configs:"""


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    console = Console(stderr=True)
    if not arguments:
        print(listing())
        return
    options, overrides = parse(arguments)
    from interp_jax.experiments.job import run_job

    command = "./launch/local " + shlex.join(arguments)
    report = run_job(options.config, overrides, options.sweep, options.rerun, command, console)
    print(f"report: {report}")


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The options, and the overrides {"section.key": text} given as --config.section.key=value."""
    parser = argparse.ArgumentParser(prog="./launch/local", add_help=True, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", help="a config file, with :arg for one of its variants")
    parser.add_argument("--sweep", action="append", help="a sweep of the config file; several multiply")
    parser.add_argument("--rerun", action="store_true", help="do again what is finished")
    try:
        options, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from None
    overrides = {}
    for word in rest:
        key, equals, value = word.removeprefix("--config.").partition("=")
        if not word.startswith("--config.") or not equals:
            raise InputError(
                f"{word!r} is not understood: options are --config, --config.KEY=VALUE, --sweep and --rerun"
            )
        overrides[key] = value
    if not options.config:
        raise InputError("which experiment? --config configs/NAME.py; without arguments the configs are listed")
    return options, overrides


def listing() -> str:
    """What the command can do, and the configs with the first line of each one's docstring."""
    configs = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
    width = max((len(p.name) for p in configs), default=0) + 8
    lines = [f"  {f'configs/{p.name}':<{width}}  {first_line(p)}" for p in configs]
    return "\n".join([ABOUT, *lines])


def first_line(path: Path) -> str:
    """First line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


if __name__ == "__main__":
    exit_cleanly(main)
    sys.stdout.flush()
