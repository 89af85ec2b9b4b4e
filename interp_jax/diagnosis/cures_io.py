"""Cures by name, by the path of a file, or by an entry point of another package, group "interp_jax.cures"."""

import importlib
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path

from interp_jax.diagnosis import cures
from interp_jax.diagnosis.family_io import load_module
from interp_jax.diagnosis.treatment import Cure, cure_of
from interp_jax.errors import InputError, nearest

GROUP = "interp_jax.cures"
SHIPPED = tuple(sorted(one.name for one in pkgutil.iter_modules(cures.__path__)))


def load_cure(reference: str) -> Cure:
    """The cure that is meant.

    Raises:
      InputError: there is none of that name, or it is no cure.
    """
    if reference in SHIPPED:
        return cure_of(importlib.import_module(f"{cures.__name__}.{reference}"))
    if reference.endswith(".py"):
        return cure_of(load_module(Path(reference)))
    others = {one.name: one for one in entry_points(group=GROUP)}
    if reference not in others:
        raise InputError(f"cure {reference!r}: {nearest(reference, [*SHIPPED, *others])}, or the path of a .py file")
    return cure_of(others[reference].load())


def every_cure() -> list[Cure]:
    """Those that come with the library and those of entry points."""
    return [load_cure(name) for name in [*SHIPPED, *(one.name for one in entry_points(group=GROUP))]]
