"""What a model does where something is taken out of one site: without an edit, with each subspace erased, with each control.

Erasers, layers and data are arrays: no edit, all subspaces × layers and their controls are members of one compiled program.
Whether the model relies on what was taken out, `reliance` says.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.probes.erasure.eraser import Eraser, edit_of
from interp_jax.train.population import pad_members, population

Behaviour = Callable[..., Float[Array, " B"]]  # of arguments, with taps inside


class Measured(NamedTuple):
    """The behaviour of every example: clean, with each subspace erased, with each control of it erased."""

    clean: Float[np.ndarray, " B"]
    erased: Float[np.ndarray, "S B"]
    control: Float[np.ndarray, "R S B"]


def measured(
    behaviour: Behaviour,
    args: tuple[Any, ...],
    site: str,
    erasers: Eraser,
    controls: Eraser,
    layers: Int[np.ndarray, " S"] | None = None,
    where: Any = None,
    batch: int = 1,
    devices: list[jax.Device] | None = None,
) -> Measured:
    """The behaviour under all erasers and their controls.

    Args:
      behaviour: of `args`, one number for each example; taps `site` once. The same function compiles once.
      args: parameters and data, read by all members.
      site: where.
      erasers: with a leading axis of subspaces S. `interchanged` ones put in what another example has.
      controls: what others read and write, with an axis of draws R before S, as `linear.random_like(erasers, seed, R)` makes
        them; centres are those of `erasers`.
      layers: of each subspace. None: erasers have an axis of layers after S, and all are edited; or the site has no layers.
      where: mask of examples and positions that are edited, as `Edit.where` takes it at one layer.
      batch: members that a device computes at once.
      devices: as for `population`.

    Raises:
      InputError: shapes that do not go together; a behaviour that is not finite.
    """
    n, draws = len(erasers.read), len(controls.read)
    if controls.read.shape[1:] != erasers.read.shape:
        raise InputError(f"controls have read {controls.read.shape}; expected [R, *{erasers.read.shape}]")
    if layers is not None and np.shape(layers) != (n,):
        raise InputError(f"{n} subspaces, but layers of shape {np.shape(layers)}")
    number = np.int32(np.tile(np.arange(n), draws + 1))
    own = (np.float32(np.concatenate([a[None], b])) for a, b in zip(erasers[1:], controls[1:], strict=True))
    read, write = (a.reshape(len(number), *a.shape[2:]) for a in own)
    with_clean = lambda a: np.concatenate([np.zeros_like(a[:1]), a])
    at = None if layers is None else with_clean(np.int32(layers)[number])
    members = Member(with_clean(number), with_clean(read), with_clean(write), at)
    devices = jax.devices() if devices is None else devices
    run = program(behaviour, site, batch, tuple(devices))
    shared = (jnp.asarray(erasers.centre, jnp.float32), where, args)
    return of_members(np.asarray(run(pad_members(members, len(devices)), shared))[: len(number) + 1], n)


def measured_under(
    behaviour: Behaviour,
    args: tuple[Any, ...],
    site: str,
    edits: Sequence[Any],
    controls: Sequence[Sequence[Any]],
    batch: int = 1,
    devices: list[jax.Device] | None = None,
) -> Measured:
    """The behaviour under any edits, as of erasers that are told labels: `labelled.means_edit`, `labelled.transport_edits`.

    Args:
      behaviour: see `measured`.
      args: likewise.
      site: where.
      edits: S of them, each an `Edit` or a sequence of some; all of one structure and shape.
      controls: of each of R draws, S edits to compare them with, as the same that are fitted to, and told, shuffled labels.
      batch: members that a device computes at once.
      devices: as for `population`.

    Raises:
      InputError: edits that do not go together; a behaviour that is not finite.
    """
    members = [*edits, *(edit for of_draw in controls for edit in of_draw)]
    alike = {jax.tree.structure(edit) for edit in members}, {tuple(map(np.shape, jax.tree.leaves(e))) for e in members}
    if any(len(kinds) != 1 for kinds in alike) or {len(of_draw) for of_draw in controls} != {len(edits)}:
        given = f"{len(edits)} edits and {[len(of_draw) for of_draw in controls]} controls"
        raise InputError(f"{given}: each draw has a control for each edit, and all are of one structure and shape")
    devices = jax.devices() if devices is None else devices
    together = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *members)
    found = np.asarray(
        program_of_edits(behaviour, site, batch, tuple(devices))(pad_members(together, len(devices)), args)
    )
    clean = np.asarray(jax.jit(behaviour)(*args))[None]
    return of_members(np.concatenate([clean, found[: len(members)]]), len(edits))


def of_members(values: Float[np.ndarray, "M B"], n: int) -> Measured:
    """Of no edit, then n of subspaces, then their controls, draw by draw.

    Raises:
      InputError: a value that is not finite.
    """
    if len(wrong := np.argwhere(~np.isfinite(values))):
        cell, example = (int(i) for i in wrong[0])
        which = f"of subspace {(cell - 1) % n}" + " (control)" * (cell > n) if cell else "without an edit"
        raise InputError(f"the behaviour {which} is {values[cell, example]} on example {example}")
    return Measured(values[0], values[1 : n + 1], values[n + 1 :].reshape(-1, n, values.shape[1]))


@lru_cache(maxsize=64)
def program_of_edits(
    behaviour: Behaviour, site: str, batch: int, devices: tuple[jax.Device, ...]
) -> Callable[[Any, Any], Any]:
    """The compiled function of (edits, arguments)."""
    return population(lambda edits, args: taps.edit(behaviour)({site: edits}, *args), batch, devices)


@lru_cache(maxsize=64)
def program(behaviour: Behaviour, site: str, batch: int, devices: tuple[jax.Device, ...]) -> Callable[[Any, Any], Any]:
    """The compiled function of (members, shared): one for a behaviour, however often it is measured."""
    return population(partial(under, behaviour, site), batch, devices)


class Member(NamedTuple):
    """One edit: which subspace's centre it has, what it reads and writes, and its layer."""

    number: Int[Array | np.ndarray, "..."]
    read: Float[Array | np.ndarray, "..."]
    write: Float[Array | np.ndarray, "..."]
    layer: Int[Array | np.ndarray, "..."] | None


def under(
    behaviour: Behaviour, site: str, member: Member, shared: tuple[Array, Any, tuple[Any, ...]]
) -> Float[Array, " B"]:
    """The behaviour under one edit."""
    centres, where, args = shared
    if where is not None and member.layer is None and member.read.ndim > 2:
        where = jnp.broadcast_to(where, (len(member.read), *jnp.shape(where)))  # one for each layer
    edit = edit_of(Eraser(centres[member.number], member.read, member.write), member.layer, where)
    return taps.edit(behaviour)({site: edit}, *args)
