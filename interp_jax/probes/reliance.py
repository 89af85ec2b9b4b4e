"""Use, not presence: how a behaviour changes where what a probe reads is taken out ("amnesic probing", Elazar et al. 2021).

    effect_i  = m_i(clean) - m_i(erased)                     m the behaviour of example i: any number made of the model's logits
    control_i = mean over R random subspaces of equal rank of m_i(clean) - m_i(that one erased)
    excess_i  = effect_i - control_i

A model relies on a subspace where taking it out changes what it does by more than taking out a random one of equal rank does. A
concept that can be read but is not used has an excess of 0, however good its probe is.

Intervals. Effects: Student's, over examples. The excess varies with the examples and with the subspaces drawn,

    half² = t(B-1)² var_i(excess_i) / B + t(R-1)² var_r(mean_i of effect_ir) / R          t: Student's quantiles

which holds the truth at least as often as it says, however few are drawn (Banerjee 1960). It is about this subspace. Whether
what any other one costs may be as much is asked by p: that of the permutation test, (1 + how many of the R change the behaviour
as much or more, either way) / (R + 1); or, of few draws, `outlier_p`.

Erasers, layers and data are arrays: no edit, all subspaces × layers and their controls are members of one compiled program.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.probes.erasure.eraser import Eraser, edit_of
from interp_jax.train.population import pad_members, population

Behaviour = Callable[..., Float[Array, " B"]]  # of arguments, with taps inside
LEAST_DRAWS = 2


class MeanInterval(NamedTuple):
    """A mean and an interval that covers it."""

    mean: Float[np.ndarray, "*S"]
    low: Float[np.ndarray, "*S"]
    high: Float[np.ndarray, "*S"]


class Measured(NamedTuple):
    """The behaviour of every example: clean, with each subspace erased, with each control of it erased."""

    clean: Float[np.ndarray, " B"]
    erased: Float[np.ndarray, "S B"]
    control: Float[np.ndarray, "R S B"]


class Reliance(NamedTuple):
    """See the module.

    Attributes:
      clean: the mean behaviour.
      effect, control, excess: of subspaces.
      p: of subspaces.
      draws: R.
    """

    clean: float
    effect: MeanInterval
    control: MeanInterval
    excess: MeanInterval
    p: Float[np.ndarray, " S"]
    draws: int


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


def reliance(found: Measured, level: float = 0.95) -> Reliance:
    """Effects, controls, and what the first have beyond the second.

    Raises:
      InputError: fewer than two examples or draws; a level outside (0, 1).
    """
    effect, control = found.clean - found.erased, found.clean - found.control
    draws, _, n = control.shape
    if n < 2 or draws < LEAST_DRAWS:
        raise InputError(f"reliance over {n} example(s) and {draws} random subspace(s): give at least 2 of each")
    if not 0 < level < 1:
        raise InputError(f"level = {level}: must lie between 0 and 1")
    of_draws, of_examples = control.mean(-1), control.mean(0)
    as_large = (np.abs(of_draws) >= np.abs(effect.mean(-1))).sum(0)
    return Reliance(
        float(found.clean.mean()),
        over_examples(effect, level),
        over_both(of_examples, of_draws, level),
        over_both(effect - of_examples, of_draws, level),
        (1 + as_large) / (1 + draws),
        draws,
    )


def over_examples(effects: Float[np.ndarray, "S B"], level: float) -> MeanInterval:
    """Student's interval."""
    n = effects.shape[-1]
    return around(effects.mean(-1), [(effects.var(-1, ddof=1) / n, n - 1)], level)


def over_both(examples: Float[np.ndarray, "S B"], draws: Float[np.ndarray, "R S"], level: float) -> MeanInterval:
    """The interval of a mean that varies with examples and with draws; see the module."""
    n, m = examples.shape[-1], len(draws)
    return around(examples.mean(-1), [(examples.var(-1, ddof=1) / n, n - 1), (draws.var(0, ddof=1) / m, m - 1)], level)


def outlier_p(examples: Float[np.ndarray, "S B"], draws: Float[np.ndarray, "R S"]) -> Float[np.ndarray, " S"]:
    """P that one more random subspace would cost as much, one-sided: costs of random subspaces are taken to be normal.

    m² = t_p(B-1)² var_i(excess_i) / B + t_p(R-1)² var_r (1 + 1/R)          m the mean of excess_i; p > ½ where m < 0

    Args:
      examples: excess_i of subspaces.
      draws: means of effect_ir.
    """
    n, m = examples.shape[-1], len(draws)
    mean = examples.mean(-1)
    parts = [(examples.var(-1, ddof=1) / n, n - 1), (draws.var(0, ddof=1) * (1 + 1 / m), m - 1)]
    low, high = np.zeros(mean.shape), np.full(mean.shape, 0.5)
    for _ in range(50):
        p = (low + high) / 2
        beyond = np.abs(mean) > reach(parts, p)
        low, high = np.where(beyond, low, p), np.where(beyond, p, high)
    return np.where(mean > 0, high, 1 - high)


def around(mean: np.ndarray, parts: list[tuple[np.ndarray, int]], level: float) -> MeanInterval:
    """Mean ± the reach of its variances."""
    half = reach(parts, np.asarray((1 - level) / 2))
    return MeanInterval(mean, mean - half, mean + half)


def reach(parts: list[tuple[np.ndarray, int]], tail: np.ndarray) -> np.ndarray:
    """√ Σ t² variance, of variances and their degrees of freedom, with so much in each tail."""
    import scipy.special  # takes a moment, which whoever needs no intervals need not wait for

    return np.sqrt(sum(scipy.special.stdtrit(freedom, 1 - tail) ** 2 * variance for variance, freedom in parts))


def relied_on(found: Reliance, alpha: float = 0.05) -> Bool[np.ndarray, " S"]:
    """Whether the behaviour is worse without the subspace than without random ones: p ≤ α, and the excess above 0.

    Needs at least 1/α - 1 draws; with fewer no p can be so small.
    """
    return (found.p <= alpha) & (found.excess.low > 0)
