"""Fit a probe everywhere at once: what people call. Checks what is given, runs one program, names what comes back.

    examples = Examples(x, y, types=tokens, untrained=x_of_the_twin)         x [*S B D], y [C B]: C labels of each example
    probed = everywhere(ridge.PROBE, examples, cross_validation(B), ridge.Hypers(penalties), axes={"layer": range(12)})

Controls are part of every result; see `controls.py`.
"""

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.errors import InputError, nearest
from interp_jax.probes.controls import TYPES, UNTRAINED, Drawn, draw, names
from interp_jax.probes.engine import program
from interp_jax.probes.inputs import Data, check
from interp_jax.probes.probe import Probe
from interp_jax.probes.result import Probed, assembled
from interp_jax.probes.scoring import Plan, Shared
from interp_jax.probes.splits import Splits
from interp_jax.train.population import pad_members

HOW_GIVEN = {
    TYPES: "give `types`, such as the token of each example",
    UNTRAINED: "give `untrained`, activations of a model with random weights",
}


class Examples(NamedTuple):
    """What is read, and what is to be read off it.

    Attributes:
      x: activations; leading axes are those of the sites (layers, positions, checkpoints). With positions kept: [*S B P D].
      y: targets of each label; leading axes of 1, or none, where all sites have the same.
      w: weights of examples, or of each label's, 0 where a label is not known.
      types: of examples (tokens, groups), for the control task.
      untrained: x of the model with random weights.
      texts: what each example was read from; the same text on both sides of a split is counted and warned of.
      groups: of examples that are not independent (the tokens of a text): their labels are shuffled together.
    """

    x: Float[Array | np.ndarray, "..."]
    y: Any
    w: Float[Array | np.ndarray, "*C B"] | None = None
    types: Int[np.ndarray, " B"] | None = None
    untrained: Float[Array | np.ndarray, "..."] | None = None
    texts: Sequence[Hashable] | np.ndarray | None = None
    groups: Sequence[Hashable] | np.ndarray | None = None


def everywhere(
    probe: Probe,
    examples: Examples,
    splits: Splits,
    hypers: Any,
    *,
    axes: Mapping[str, Sequence[Any]] | None = None,
    labels: Sequence[str] | None = None,
    weigh: Callable[[Array, Array], Array] | None = None,
    seed: int = 0,
    batch: int = 1,
    splits_at_once: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    without: Sequence[str] = (),
) -> Probed:
    """The probe at all sites, of all labels and controls, by all regularisations and splits.

    Args:
      probe: see `probe.py`.
      examples: see `Examples`.
      splits: see `splits.py`; each of its seeds has draws of its own.
      hypers: a NamedTuple of scalars, or of [H] values that are taken together.
      axes: names of the leading axes of x, with the names along each; none where x is of one site.
      labels: their names.
      weigh: (y, w) -> w for each target by itself, such as `balanced`.
      seed: of fits and controls.
      batch: sites at once.
      splits_at_once: how many splits are fitted at once; fewer need less memory.
      devices: sites are spread over them. Default one.
      without: controls that are left out on purpose, "types" or "untrained"; others that examples do not allow are warned of.

    Raises:
      InputError: see `inputs.py`; a control that cannot be left out; several CPU devices for a probe that factorises, see
        `probe.py`.
    """
    if probe.factorises and len(devices or ()) > 1 and devices[0].platform == "cpu":
        raise InputError(
            f"probe: it factorises matrices, and programs of {len(devices)} CPU devices never end so; give 1"
        )
    axes = dict(axes or {})
    data = check(probe, examples, splits, axes, labels)
    warn_of_absent(data, without)
    hypers = jax.tree.map(lambda leaf: jnp.atleast_1d(jnp.asarray(leaf, data.x.dtype)), hypers)
    length = max(len(leaf) for leaf in jax.tree.leaves(hypers))
    hypers = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (length,)), hypers)
    splits = splits._replace(nested=splits.nested and length > 1)  # of one, none is to be chosen
    n_seeds = len(splits.fold)
    counted = (data.w > 0) if data.w.ndim == 1 else (data.w > 0).any(0)
    index = [
        draw(seed, n, fold, splits.n_folds, counted, data.types, data.groups) for n, fold in enumerate(splits.fold)
    ]
    keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(seed), n))(jnp.arange(n_seeds))
    elsewhere = bool((splits.fold == splits.n_folds).any())
    plan = Plan(probe, splits.n_folds, splits.nested, elsewhere, weigh, data.w.ndim == 2, splits_at_once)
    rows = splits.rows()
    shared = Shared(
        jnp.asarray(data.w),
        Drawn(keys, jnp.asarray(np.stack(index))),
        jnp.asarray(rows),
        jnp.asarray(splits.include, data.x.dtype),
        jnp.asarray(splits.pairs, jnp.int32),
        hypers,
    )
    devices = tuple(jax.devices()[:1] if devices is None else devices)
    members = pad_members((data.x, data.untrained, data.y), len(devices))
    found = program(plan, batch, devices)(members, shared)
    found = jax.tree.map(lambda leaf: leaf[: len(data.x)], found)
    kinds = names(data.types is not None, data.untrained is not None)
    return assembled(found, kinds, axes, data, splits, np.stack(index), hypers, probe.target)


def warn_of_absent(data: Data, without: Sequence[str]) -> None:
    """Say which controls there are none of, and how they are given."""
    given = {TYPES: data.types, UNTRAINED: data.untrained}
    for name in without:
        if name not in given:
            raise InputError(f"probe: without = {name!r}, a control that is always there; {nearest(name, given)}")
    if absent := [name for name in given if given[name] is None and name not in without]:
        ways = " and ".join(f"{name!r} ({HOW_GIVEN[name]})" for name in absent)
        warnings.warn(f"probe: no control {ways}; without={tuple(absent)} says that this is meant", stacklevel=3)


def balanced(y: Float[Array, " B"], w: Float[Array, " B"]) -> Float[Array, " B"]:
    """Weights by which both classes of a binary target weigh the same, and all together as much as before."""
    yes, no = (w * y).sum(), (w * (1 - y)).sum()
    return w * jnp.where(y > 0.5, 0.5 / jnp.where(yes > 0, yes, 1.0), 0.5 / jnp.where(no > 0, no, 1.0)) * w.sum()
