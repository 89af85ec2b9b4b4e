"""One run over several devices: examples over one axis of a mesh, parameters over the other, by rules on their paths.

    mesh ("data", "model")     devices as a grid: those of a column have the same parameters, those of a row the same examples
    rules                      (pattern, spec) in order: a leaf lies as the first whose pattern is found in its path says;
                               others are everywhere. Moments of an optimizer have their parameter's path, and lie as it does.

A step is the one that a run takes on one device, compiled for arrays that lie so: sums over what is apart become collectives
(Xu et al. 2021, GSPMD).
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Shaped

from interp_jax.errors import InputError
from interp_jax.train.run import Run, RunState

DATA, MODEL = "data", "model"
BOTH = (DATA, MODEL)
Rules = Sequence[tuple[str, P]]


def grid(data: int, model: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """`data` times `model` devices.

    Raises:
      InputError: there are not so many.
    """
    devices = jax.devices() if devices is None else devices
    if data < 1 or model < 1 or data * model > len(devices):
        raise InputError(f"mesh: {data} × {model} devices were asked for; there are {len(devices)}")
    return Mesh(np.array(devices[: data * model]).reshape(data, model), BOTH, axis_types=(AxisType.Auto,) * 2)


def grid_for(model: int, batch_size: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Parameters over `model` devices, and examples over as many of the others as divide a batch.

    Where there are fewer devices than `model`, as many as divide it: a run that began on eight goes on on four, or on one.
    """
    devices = jax.devices() if devices is None else devices
    model = largest_divisor(model, len(devices))
    return grid(largest_divisor(batch_size, len(devices) // model), model, devices)


def largest_divisor(n: int, most: int) -> int:
    """The largest divisor of n that is at most `most`."""
    return max(d for d in range(1, min(n, most) + 1) if n % d == 0)


def mesh_here() -> AbstractMesh | None:
    """The mesh that a step is being compiled for (`on_mesh`); None where there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if set(BOTH) <= set(mesh.axis_names) else None


def on_mesh(run: Run, mesh: Mesh) -> Run:
    """The run, whose steps know of the mesh by `mesh_here`."""

    def advance(state: RunState, hypers: Any, span: Any, shared: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return run.advance(state, hypers, span, shared)

    return Run(run.init, advance)


def over_examples(x: Shaped[Array, "B ..."]) -> Shaped[Array, "B ..."]:
    """A batch whose examples lie over "data" of the mesh that is here; where none is, the batch as it is."""
    return x if mesh_here() is None else jax.lax.with_sharding_constraint(x, P(DATA))


def shardings(state: Any, rules: Rules, mesh: Mesh) -> Any:
    """Where each leaf of a tree of arrays or shapes lies.

    Raises:
      InputError: an axis is not divisible by the devices that it is to lie over.
    """

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        spec = next((spec for pattern, spec in rules if re.search(pattern, name)), P()) if np.ndim(leaf) else P()
        for length, axis in zip(np.shape(leaf), spec, strict=False):
            n = 1 if axis is None else mesh.shape[axis]
            if length % n:
                below = length // n * n
                raise InputError(
                    f"{name} {list(np.shape(leaf))}: {length} is not divisible by the {n} devices that it lies over;"
                    f" the nearest are {below or n} and {below + n}"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(place, state)
