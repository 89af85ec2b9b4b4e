"""The unit of work: many runs of one pure function as one compiled program.

    population(f, batch) = jit(shard_map(lax.map(f, batch_size=batch)))       over a mesh with one axis, "run"

batch = 1 runs a device's members one after another, batch = all runs them as one `vmap`; there is no other path, and one
run is a population of one. Members never talk: the compiled program has no collectives (tested).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "run"


def population(
    function: Callable[[Any, Any], Any],
    batch: int = 1,
    devices: Sequence[jax.Device] | None = None,
    donate: bool = False,
) -> Callable[[Any, Any], Any]:
    """Lift `function(member, shared)` to `lifted(members, shared)`, where every leaf of `members` has a leading R axis.

    Args:
      function: pure; `member` is any pytree, `shared` a pytree that all members read.
      batch: members that a device computes at once. One that divides the members per device compiles the body once.
      devices: those to spread members over (default: all); R must be a multiple of their number (`pad_members`).
      donate: let the result reuse the memory of `members`.

    Returns:
      A jitted function whose result has a leading R axis, sharded over `devices`.
    """
    mesh = run_mesh(devices)
    batch_size = None if batch == 1 else batch

    def on_device(members: Any, shared: Any) -> Any:
        return jax.lax.map(partial(_flipped, function, shared), members, batch_size=batch_size)

    sharded = jax.shard_map(on_device, mesh=mesh, in_specs=(P(AXIS), P()), out_specs=P(AXIS), check_vma=False)
    return jax.jit(sharded, donate_argnums=0 if donate else ())


def _flipped(function: Callable[[Any, Any], Any], shared: Any, member: Any) -> Any:
    return function(member, shared)


def run_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The one-axis mesh over which members are spread."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def pad_members(members: Any, multiple: int) -> Any:
    """`members` with its last one repeated until R is a multiple of `multiple`: shapes for a mesh, results to drop."""
    n = jax.tree.leaves(members)[0].shape[0]
    index = np.minimum(np.arange(-(-n // multiple) * multiple), n - 1)
    return jax.tree.map(lambda x: x[index], members) if len(index) > n else members


def place(members: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """`members` laid out over the devices along their R axis."""
    return jax.device_put(jax.tree.map(jnp.asarray, members), NamedSharding(run_mesh(devices), P(AXIS)))
