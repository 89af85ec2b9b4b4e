"""Families by name, by the path of a file, or by an entry point of another package, group "interp_jax.families".

"parity"    one that comes with the library        "path/to/mine.py"    a file        "name"    an entry point of that name
"parity+majority"    both in one model, told apart by a first token (`superposed.py`)
"""

import importlib
import importlib.util
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from interp_jax.diagnosis import families
from interp_jax.diagnosis.family import Family, family_of
from interp_jax.diagnosis.superposed import superposed
from interp_jax.errors import InputError, nearest

GROUP = "interp_jax.families"
SHIPPED = tuple(sorted(one.name for one in pkgutil.iter_modules(families.__path__)))


@cache
def load_family(reference: str) -> Family:
    """The family that is meant, checked.

    Raises:
      InputError: there is none of that name, its file cannot be read, or it is no family.
    """
    if "+" in reference and not Path(reference).is_file():
        first, _, second = reference.partition("+")
        return superposed(load_family(first), load_family(second))
    if reference in SHIPPED:
        return family_of(importlib.import_module(f"{families.__name__}.{reference}"))
    if reference.endswith(".py"):
        return family_of(load_module(Path(reference)))
    others = {one.name: one for one in entry_points(group=GROUP)}
    if reference not in others:
        raise InputError(f"family {reference!r}: {nearest(reference, [*SHIPPED, *others])}, or the path of a .py file")
    try:
        found = others[reference].load()
    except Exception as error:
        raise InputError(f"family {reference!r}: {others[reference].value} raised {error!r}") from error
    return family_of(found)


def load_module(path: Path) -> ModuleType:
    """A file as a module.

    Raises:
      InputError: it is missing, or its code fails.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"family {path}: there is no such file; known names: {', '.join(SHIPPED)}")
    spec = importlib.util.spec_from_file_location(f"family_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"family {path}: {type(error).__name__}: {error}") from error
    return module
