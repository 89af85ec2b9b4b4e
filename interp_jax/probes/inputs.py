"""What a probe is given, looked through before anything is computed: one line for each thing that is wrong, and where."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax.errors import InputError
from interp_jax.probes.places import named, site_name
from interp_jax.probes.probe import Probe
from interp_jax.probes.splits import Splits, leaks
from interp_jax.probes.target_checks import check_classes, check_targets


class Data(NamedTuple):
    """What was given, in one form.

    Attributes:
      x: [R B ...], sites along one axis.
      y: [R C B ...], the same.
      w: [B], or [C B].
      types: see `Examples`.
      groups: of examples, by number.
      untrained: as x, or None.
      labels: names.
    """

    x: Array
    y: Array
    w: np.ndarray
    types: Int[np.ndarray, " B"] | None
    groups: Int[np.ndarray, " B"] | None
    untrained: Array | None
    labels: tuple[str, ...]


def check(
    probe: Probe, examples: Any, splits: Splits, axes: Mapping[str, Sequence[Any]], labels: Sequence[str] | None
) -> Data:
    """In one form.

    Raises:
      InputError: shapes that do not fit; numbers that are not finite; a site where nothing varies; see `target_checks.py`.
    """
    n_sites, n = len(axes), splits.fold.shape[1]
    for number, (name, names) in enumerate(axes.items()):
        if number >= np.ndim(examples.x) - 2 or len(names) != examples.x.shape[number]:
            found = examples.x.shape[number] if number < np.ndim(examples.x) - 2 else "none"
            raise InputError(
                f"probe: {len(names)} names of axis {name!r} ({names[-1]!r} the last), but x has {found} there"
            )
    if np.shape(examples.x)[n_sites] != n:
        raise InputError(
            f"probe: x {np.shape(examples.x)} has {np.shape(examples.x)[n_sites]} examples, splits have {n}"
        )
    if examples.untrained is not None and np.shape(examples.untrained) != np.shape(examples.x):
        raise InputError(
            f"probe: untrained activations are {np.shape(examples.untrained)}, the trained {np.shape(examples.x)}"
        )
    sites = tuple(map(len, axes.values()))
    x = one_axis(examples.x, n_sites, math.prod(sites))
    untrained = None if examples.untrained is None else one_axis(examples.untrained, n_sites, math.prod(sites))
    for what, given in (("x", x), ("untrained x", untrained)):
        if given is not None:
            check_rows(what, given, axes)
    y = targets(examples.y, sites, n, labels)
    names = tuple(labels) if labels is not None else tuple(f"label {c}" for c in range(y.shape[1]))
    w = np.ones(n) if examples.w is None else np.asarray(examples.w)
    if w.shape not in ((n,), (y.shape[1], n)) or not (np.isfinite(w).all() and (w >= 0).all()):
        raise InputError(f"probe: weights {w.shape} must be finite, at least 0, and [{n}] or [{y.shape[1]} {n}]")
    check_targets(probe, y, w, names, axes)
    if probe.target.classes is not None:
        check_classes(probe, y, w, splits, names, axes)
    types = None if examples.types is None else np.asarray(examples.types)
    if types is not None and types.shape != (n,):
        raise InputError(f"probe: types {types.shape} must be one number for each of {n} examples")
    if examples.texts is not None:
        if len(examples.texts) != n:
            raise InputError(f"probe: {len(examples.texts)} texts of {n} examples")
        leaks(splits, examples.texts, stacklevel=5)
    groups = None if examples.groups is None else np.unique(np.asarray(examples.groups), return_inverse=True)[1]
    if groups is not None and groups.shape != (n,):
        raise InputError(f"probe: {np.shape(examples.groups)} groups; there must be one for each of {n} examples")
    y = np.where(np.isfinite(y), y, 0.0)  # what is not has weight 0
    return Data(x, jnp.asarray(y, x.dtype), w.astype(x.dtype), types, groups, untrained, names)


def one_axis(x: Any, n_axes: int, n_sites: int) -> Array:
    """Leading axes as one, which is of length 1 where there are none; no copy."""
    return jnp.asarray(x).reshape(n_sites, *np.shape(x)[n_axes:])


def targets(y: Any, sites: tuple[int, ...], n: int, labels: Sequence[str] | None) -> Float[np.ndarray, "R C B ..."]:
    """Of all sites; one label may come without its axis."""
    y = np.asarray(y)
    if y.dtype.kind not in "biuf":
        raise InputError(f"probe: targets such as {y.flat[0]!r}, of example 0; they must be numbers")
    y = y if np.issubdtype(y.dtype, np.floating) else y.astype(np.float32)
    if y.shape[:1] == (n,) and (labels is None or len(labels) == 1):
        y = y[None]
    own = 0 if y.shape[1:2] == (n,) else len(sites)
    shape = y.shape[own:]
    if shape[1:2] != (n,) or any(a not in (1, b) for a, b in zip(y.shape[:own], sites, strict=False)):
        raise InputError(
            f"probe: targets {y.shape} must be [labels, examples, …], with {n} examples; axes of sites may lead"
        )
    if labels is not None and len(labels) != shape[0]:
        raise InputError(f"probe: {len(labels)} names of {shape[0]} labels")
    y = y if own else y.reshape(*[1] * len(sites), *shape)
    return np.broadcast_to(y, (*sites, *shape)).reshape(-1, *shape)


def check_rows(what: str, x: Array, axes: Mapping[str, Sequence[Any]]) -> None:
    """Raise where a number is not finite or nothing varies; warn of features that are constant."""
    sound, constant = map(np.asarray, look(x))
    if not sound.all():
        site = int(np.flatnonzero(~sound)[0])
        row, *_ = np.argwhere(~np.isfinite(np.asarray(x[site])))[0]
        raise InputError(f"probe: {what} has a number that is not finite, in example {row} at {site_name(site, axes)}")
    dead = np.flatnonzero(constant.all(-1))
    if len(dead):
        raise InputError(
            f"probe: {what} is the same for all examples at {named(dead, axes)}; is the site read where it is alive?"
        )
    some = np.flatnonzero(constant.any(-1))
    if len(some):
        counts = constant[some[0]].sum()
        warnings.warn(
            f"probe: {counts} of {constant.shape[-1]} features of {what} are constant at {named(some, axes)}",
            stacklevel=5,
        )


@jax.jit
def look(x: Float[Array, "R B ..."]) -> tuple[Bool[Array, " R"], Bool[Array, "R D"]]:
    """Whether all is finite, and which features are constant, by site."""
    over = tuple(range(1, x.ndim - 1))
    return jnp.isfinite(x).all((*over, x.ndim - 1)), x.max(over) == x.min(over)
