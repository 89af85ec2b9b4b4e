"""Phases of superposition from exact losses (Elhage et al. 2022, "Superposition as a phase change").

The expected loss of a ReLU toy model on independent features, present with probability p and then uniform on [0, 1), has a
closed form. Let P_k(u) = ReLU(u)^k / k!, so that P_k' = P_(k−1). Given which features are present, pre-activation i is
u = Σ_j c_j x_j + b with c = W W_i, and

    E(x_i − ReLU(u))² = E x_i² − 2 E x_i P_1(u) + 2 E P_2(u),

    ∫₀¹ P_k(v + c x) dx   = [P_(k+1)(v + c) − P_(k+1)(v)] / c,
    ∫₀¹ x P_k(v + c x) dx = P_(k+1)(v + c) / c − [P_(k+2)(v + c) − P_(k+2)(v)] / c²,

one axis after the other; where c is small, their Taylor series. An absent feature is one with c = 0. All of it is exact up to
rounding, so minimising it in float64 from each candidate solution gives the true phase at any density and importance.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.anatomy.geometry import feature_dimensionality, represented

PHASES = ("ignored", "dedicated", "superposed")  # what becomes of the last feature
ALONE = 0.75  # dimensionality above which a represented feature has a dimension of its own
SMALL = 1e-3  # slope below which the Taylor series is the more accurate
HIGHEST = 6  # order that P_k can reach with four features
UNEVEN = (
    0.9  # length of a pair's second arm at the start: an even pair may be a saddle, from which descent never leaves
)
EVALUATIONS = 120  # of loss and gradient per minimisation

Terms = tuple[Array, Array, Array]  # shift of the argument, weight, rise of the order


class Optimum(NamedTuple):
    """The best solution at each of G points: W [G, S, D], b [G, S], loss [G]; phase [G], an index into `PHASES`."""

    W: np.ndarray
    b: np.ndarray
    loss: np.ndarray
    phase: np.ndarray


def expected_loss(
    W: Float[Array, "S D"], b: Float[Array, "S"], importance: Float[Array, "S"], density: Float[Array, ""]
) -> Float[Array, ""]:
    """Mean over features of importance · E(x_i − x̂_i)²; S small, since all 2^S patterns of presence are summed."""
    n_features = W.shape[0]
    patterns = jnp.array(list(itertools.product((0.0, 1.0), repeat=n_features)), W.dtype)
    n_present = patterns.sum(1)
    chance = density**n_present * (1.0 - density) ** (n_features - n_present)
    own_first = (np.arange(n_features)[:, None] + np.arange(n_features)) % n_features  # row i begins with i
    slopes = jnp.take_along_axis(W @ W.T, own_first, axis=1)
    over_patterns = jax.vmap(_squared_error, in_axes=(None, None, 0))
    errors = jax.vmap(over_patterns)(slopes, b, patterns[:, own_first].swapaxes(0, 1))
    return jnp.mean(importance * (errors @ chance))


def _squared_error(slopes: Array, b: Array, present: Array) -> Array:
    """E(x − ReLU(u))² of the feature that `slopes` [S] and `present` [S] begin with, given which ones are present."""
    own, *others = [slope * there for slope, there in zip(slopes, present, strict=True)]
    others = [_axis(c) for c in others]
    cross = _integral(1, b, [_weighted_axis(own), *others])
    return present[0] * (1.0 / 3.0 - 2.0 * cross) + 2.0 * _integral(2, b, [_axis(own), *others])


def _axis(c: Array) -> Terms:
    """∫₀¹ P_k(v + c x) dx as Σ weight · P_(k + rise)(v + shift)."""
    small, safe = _small(c)
    shift = jnp.where(small, jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])) * c
    weight = jnp.where(small, jnp.stack([jnp.ones_like(c), c**2 / 24]), jnp.stack([1 / safe, -1 / safe]))
    return shift, weight, jnp.where(small, jnp.array([0.0, -2.0]), jnp.array([1.0, 1.0]))


def _weighted_axis(c: Array) -> Terms:
    """∫₀¹ x P_k(v + c x) dx as Σ weight · P_(k + rise)(v + shift)."""
    small, safe = _small(c)
    shift = jnp.where(small, 0.0, jnp.array([1.0, 1.0, 0.0])) * c
    series = jnp.stack([0.5 * jnp.ones_like(c), c / 3, c**2 / 8])
    weight = jnp.where(small, series, jnp.stack([1 / safe, -1 / safe**2, 1 / safe**2]))
    return shift, weight, jnp.where(small, jnp.array([0.0, -1.0, -2.0]), jnp.array([1.0, 2.0, 2.0]))


def _small(c: Array) -> tuple[Array, Array]:
    """Whether the series is to be used, and a divisor that is safe where it is."""
    small = jnp.abs(c) < SMALL
    return small, jnp.where(small, 1.0, c)


def _integral(order: int, b: Array, axes: list[Terms]) -> Array:
    """P_order(u) integrated along all axes, times the x of a weighted one."""
    shift, weight, rise = jnp.zeros(1, b.dtype), jnp.ones(1, b.dtype), jnp.full(1, order, b.dtype)
    for axis in axes:
        shift = (shift[:, None] + axis[0]).ravel()
        weight = (weight[:, None] * axis[1]).ravel()
        rise = (rise[:, None] + axis[2]).ravel()
    powers = _powers(b + shift)
    orders = jnp.arange(len(powers), dtype=b.dtype)[:, None]
    return jnp.sum(weight * jnp.sum(powers * (orders == rise), axis=0))


def _powers(u: Array) -> Array:
    """P_0 … P_HIGHEST of u, stacked."""
    u = jax.nn.relu(u)
    powers = [(u > 0).astype(u.dtype)]
    for k in range(1, HIGHEST + 1):
        powers.append(powers[-1] * u / k)
    return jnp.stack(powers)


def candidates(n_features: int, n_hidden: int) -> Float[np.ndarray, "K S D"]:
    """Weights to start from, D = S − 1: one feature left out, or two in an antipodal pair, or all in a regular simplex.

    All features but the last are alike, so only one of them is left out or paired with the last.
    """
    eye = np.eye(n_hidden)
    last, first = n_features - 1, 0
    starts = [np.insert(eye, out, 0.0, axis=0) for out in (last, first)]
    starts.append(np.append(eye, -UNEVEN * eye[:1], axis=0))  # the first with the last
    if n_features > 2:
        starts.append(np.insert(eye, 1, -UNEVEN * eye[0], axis=0))  # the first with the second
        simplex = np.linalg.svd(np.eye(n_features) - 1 / n_features)[0][:, :n_hidden]
        starts.append(simplex / np.linalg.norm(simplex, axis=1, keepdims=True))
    return np.stack(starts)


def best_solutions(
    n_features: int, n_hidden: int, density: Float[np.ndarray, "G"], last_importance: Float[np.ndarray, "G"]
) -> Optimum:
    """The minimum of the exact loss at each (density, importance of the last feature), reached from every candidate."""
    with jax.enable_x64(True):
        starts = jnp.asarray(candidates(n_features, n_hidden))
        p, last = jnp.asarray(density, jnp.float64), jnp.asarray(last_importance, jnp.float64)
        W, b, loss = _minimise_all(starts, p, last)
        best = jnp.argmin(loss, axis=1)[:, None]
        W = jnp.take_along_axis(W, best[..., None, None], 1)[:, 0]
        b = jnp.take_along_axis(b, best[..., None], 1)[:, 0]
        loss = jnp.take_along_axis(loss, best, 1)[:, 0]
        return Optimum(np.asarray(W), np.asarray(b), np.asarray(loss), np.asarray(phase_of_last(W)))


def exact_losses(
    W: Float[np.ndarray, "R S D"],
    b: Float[np.ndarray, "R S"],
    density: Float[np.ndarray, "R"],
    last_importance: Float[np.ndarray, "R"],
) -> Float[np.ndarray, "R"]:
    """`expected_loss` of measured weights, in float64; all features but the last have importance 1."""
    with jax.enable_x64(True):
        importance = np.ones(b.shape)
        importance[:, -1] = last_importance
        inputs = [jnp.asarray(x, jnp.float64) for x in (W, b, importance, density)]
        return np.asarray(jax.jit(jax.vmap(expected_loss))(*inputs))


def phase_of_last(W: Float[Array | np.ndarray, "*R S D"]) -> Int[Array, "*R"]:
    """What becomes of the last feature, as an index into `PHASES`."""
    alone = feature_dimensionality(W)[..., -1] > ALONE
    return jnp.where(represented(W)[..., -1], jnp.where(alone, 1, 2), 0)


@jax.jit
def _minimise_all(starts: Array, density: Array, last: Array) -> tuple[Array, Array, Array]:
    """Solutions W [G, K, S, D], b [G, K, S], loss [G, K] from K starts at G points."""
    n_features = starts.shape[1]

    def one(start: Array, p: Array, last: Array) -> tuple[Array, Array, Array]:
        importance = jnp.ones(n_features).at[-1].set(last)
        lost = jnp.sum(start**2, axis=1) == 0
        flat = jnp.concatenate(
            [start.ravel(), jnp.where(lost, p / 2, 0.0)]
        )  # p / 2: the mean of what is not represented

        def loss(flat: Array) -> Array:
            return expected_loss(flat[: start.size].reshape(start.shape), flat[start.size :], importance, p)

        flat, value = _descend(loss, flat)
        return flat[: start.size].reshape(start.shape), flat[start.size :], value

    over_starts = jax.vmap(one, in_axes=(0, None, None))
    return jax.lax.map(lambda point: over_starts(starts, *point), (density, last), batch_size=8)  # 8 fit a CPU's cache


def _descend(loss: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """The minimum that BFGS reaches from x, and its value; a step that does not descend is tried again a quarter as long."""
    value_and_grad = jax.value_and_grad(loss)

    def step(_: Array, carry: Any) -> Any:
        x, value, grad, inverse, length = carry
        move = -length * (inverse @ grad)
        new_value, new_grad = value_and_grad(x + move)
        descends = new_value < value
        bend = new_grad - grad
        curvature = bend @ move
        curved = curvature > 1e-14 * jnp.sqrt((bend @ bend) * (move @ move))
        project = jnp.eye(x.size) - jnp.outer(move, bend) / jnp.where(curved, curvature, 1.0)
        updated = project @ inverse @ project.T + jnp.outer(move, move) / jnp.where(curved, curvature, 1.0)
        inverse = jnp.where(curved, updated, inverse)
        kept = jax.tree.map(partial(jnp.where, descends), (x + move, new_value, new_grad), (x, value, grad))
        return *kept, inverse, jnp.where(descends, 1.0, length / 4)

    start = (x, *value_and_grad(x), jnp.eye(x.size, dtype=x.dtype), jnp.ones((), x.dtype))
    return jax.lax.fori_loop(0, EVALUATIONS, step, start)[:2]
