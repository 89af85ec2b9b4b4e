"""Where the members of a chunk lie: spread over the devices, as most do, or each of them over all where one is too small.

A layout places what comes from the host, and lifts a function of a member to all. Spread members know nothing of each other:
`train/population.py`. Members over all devices are taken one after another, each by a program that is partitioned by how its
state lies; what members are told and what they read is everywhere.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from interp_jax.errors import InputError
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.processes import devices_for, fetch, put, several
from interp_jax.train.population import pad_members, place, population, run_mesh


class Layout(NamedTuple):
    """How members lie.

    Attributes:
      devices: all that are used.
      hypers: what members are told -> the same on the devices.
      states: members' states, from a checkpoint -> the same on the devices.
      lift: (function of (member, shared), batch, what of its result is members' (state, hypers), whether their memory is taken)
        -> a jitted function of (members, shared). The result is all members, their beginning, or nothing of them.
      each: the most members that a device may compute at once; 0 for any number.
      apart: whether no process has all of a member's state, so that each saves and restores its part.
    """

    devices: list[jax.Device]
    hypers: Callable[[Any], Any]
    states: Callable[[Any], Any]
    lift: Callable[..., Any]
    each: int = 0
    apart: bool = False

    def shared(self, arrays: Any) -> Any:
        """What all members read, where several processes read it: on all devices."""
        everywhere = NamedSharding(run_mesh(self.devices), PartitionSpec())
        return put(arrays, everywhere) if several() else arrays

    def saved(self, states: Any, n: int) -> Any:
        """What a checkpoint holds of n members' states: on the host, where one process has all of them."""
        return states if self.apart else jax.tree.map(lambda x: x[:n], fetch(states))

    def like(self, states: Any, n: int) -> Any:
        """What a checkpoint of n members is to be restored as."""
        where = lambda x: x.sharding if self.apart else None
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype, sharding=where(x)), states)


ALL, FIRST, NONE = "all", "first", "none"  # what of a result is members


def layout_of(experiment: Experiment, hypers: Any) -> Layout:
    """The layout of a chunk with these members."""
    return spread_out(hypers) if experiment.lay is None else across(experiment, hypers)


def spread_out(hypers: Any) -> Layout:
    """Members over the devices, no more devices than members, the last one repeated."""
    devices = devices_for(jax.tree.leaves(hypers)[0].shape[0])
    spread = lambda members: place(pad_members(members, len(devices)), devices)
    lift = lambda function, batch, result, donate=False: population(function, batch, devices, donate)
    return Layout(devices, spread, spread, lift)


def across(experiment: Experiment, hypers: Any) -> Layout:
    """Each member over all devices of a mesh, as the experiment lays it.

    Raises:
      InputError: several processes share it, and one of them has no device of the mesh.
    """
    init = lambda hypers: experiment.run.init(hypers.seed, hypers)
    of_one = experiment.lay(jax.eval_shape(init, jax.tree.map(lambda leaf: leaf[0], hypers)))
    mesh = jax.tree.leaves(of_one)[0].mesh
    if idle := sorted(set(range(jax.process_count())) - {device.process_index for device in mesh.devices.flat}):
        shape = " × ".join(f"{n} {axis}" for axis, n in mesh.shape.items())
        raise InputError(
            f"{jax.process_count()} processes share this run, which divides over {mesh.size} devices ({shape}): none is left"
            f" for process {idle[0]}; take fewer, or a batch_size that their devices divide"
        )
    everywhere = NamedSharding(mesh, PartitionSpec())
    states = jax.tree.map(lambda own: NamedSharding(mesh, PartitionSpec(None, *own.spec)), of_one)
    members = (states, everywhere)
    out = {ALL: members, FIRST: (members, everywhere, everywhere), NONE: everywhere}

    def lift(function: Any, batch: int, result: str, donate: bool = False) -> Any:
        one_by_one = lambda members, shared: jax.lax.map(partial(_flipped, function, shared), members)
        return jax.jit(one_by_one, out_shardings=out[result], donate_argnums=0 if donate else ())

    laid = lambda where: lambda tree: jax.device_put(tree, where)
    return Layout(list(mesh.devices.flat), laid(everywhere), laid(states), lift, each=1, apart=several())


def _flipped(function: Callable[[Any, Any], Any], shared: Any, member: Any) -> Any:
    return function(member, shared)
