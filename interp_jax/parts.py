"""Parts: frozen dataclasses that describe a piece of a run, and are pytrees.

A field is *static* by default: it shapes the compiled program and lives in the tree's structure. A field made with
`hyper()` is a leaf: it is traced, so sweeping it never recompiles. Hence

    same group  <=>  jax.tree.structure(a) == jax.tree.structure(b)        population = stack([a, b, ...])

A part may hold parts, given by their default value. `check()` methods raise `InputError` for impossible values.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

Part = TypeVar("Part")


def hyper(default: float | int) -> Any:
    """A traced scalar field of a part: float32 where the default is a float, int32 where it is an int."""
    return dataclasses.field(default=default, metadata={"hyper": True})


def is_part(value: Any) -> bool:
    """Whether `value` is a part or a part's class."""
    return getattr(value, "__is_part__", False)


@dataclass_transform(frozen_default=True, field_specifiers=(hyper,))
def part(cls: type[Part]) -> type[Part]:
    """Class decorator: a frozen dataclass whose `hyper()` fields and nested parts are pytree children."""
    for name, value in vars(cls).items():
        if isinstance(value, dataclasses.Field) and value.metadata.get("hyper"):
            cls.__annotations__[name] = Any  # a number in a config, an array in a population, a tracer in a run
    cls = dataclasses.dataclass(frozen=True)(cls)
    cls.__is_part__ = True
    children = [f.name for f in dataclasses.fields(cls) if f.metadata.get("hyper") or is_part(f.default)]
    static = [f.name for f in dataclasses.fields(cls) if f.name not in children]
    return jax.tree_util.register_dataclass(cls, children, static)


def stack(members: Sequence[Part]) -> Part:
    """One part whose leaves are arrays [R], from R parts of equal structure: the hypers of a population."""
    if len({jax.tree.structure(m) for m in members}) != 1:
        raise ValueError("members of a population must have equal static fields")
    return jax.tree.map(lambda *leaves: np.asarray(leaves, _dtype(leaves[0])), *members)


def _dtype(leaf: Any) -> Any:
    return np.float32 if isinstance(leaf, float) else np.int32
