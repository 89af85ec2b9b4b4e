"""Diagnosers by name, by the path of a file, or by an entry point of another package, group "interp_jax.diagnosers"."""

import importlib
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path

from interp_jax.diagnosis import diagnosers
from interp_jax.diagnosis.examination import Diagnoser, diagnoser_of
from interp_jax.diagnosis.family_io import load_module
from interp_jax.errors import InputError, nearest

GROUP = "interp_jax.diagnosers"
SHIPPED = tuple(sorted(one.name for one in pkgutil.iter_modules(diagnosers.__path__)))


def load_diagnoser(reference: str) -> Diagnoser:
    """The diagnoser that is meant.

    Raises:
      InputError: there is none of that name, or it is no diagnoser.
    """
    if reference in SHIPPED:
        return diagnoser_of(importlib.import_module(f"{diagnosers.__name__}.{reference}"))
    if reference.endswith(".py"):
        return diagnoser_of(load_module(Path(reference)))
    others = {one.name: one for one in entry_points(group=GROUP)}
    if reference not in others:
        raise InputError(
            f"diagnoser {reference!r}: {nearest(reference, [*SHIPPED, *others])}, or the path of a .py file"
        )
    return diagnoser_of(others[reference].load())


def every_diagnoser() -> list[Diagnoser]:
    """Those that come with the library and those of entry points, cheap ones first."""
    names = [*SHIPPED, *(one.name for one in entry_points(group=GROUP))]
    return sorted(map(load_diagnoser, names), key=lambda one: (one.cost, one.name))
