"""How many bits labels cost someone who has the activations: the online code (Rissanen 1984; Voita and Titov 2020).

    L = n_1 log₂ K + Σ_s Σ_{n_s ≤ i < n_(s+1)} -log₂ p_s(y_i | x_i)          p_s is fitted to the examples before n_s
    p_s = (n_s σ(z_s) + K · 1/K) / (n_s + K)          what the probe says, and one guess among K for each class

Both sides fit the same probe to what has been sent, and what comes next is coded by it; the first portion is coded as a guess.
A probe that needs many examples, or that is sure and wrong, costs more than one that reads what lies open. The guess that is
mixed in makes no example cost more than log₂(n_s + K) bits, also where a portion has one class only.

`uniform` is n log₂ K, the cost of guessing; `shuffled` what the same code makes of the labels in another order, its control.
Weights are repetitions: an example of weight 2 costs twice.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from interp_jax.errors import InputError
from interp_jax.probes.probe import Convergence, Probe, Target, convergence_of
from interp_jax.probes.targets import BINARY, CLASSES, LABELS

PORTIONS = (
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.032,
    0.0625,
    0.125,
    0.25,
    0.5,
    1.0,
)  # where they end: Voita and Titov's


class OnlineCode(NamedTuple):
    """Bits of all examples together.

    Attributes:
      bits: of the labels.
      uniform: of guessing.
      shuffled: of labels in another order.
      portions: what each portion of the labels cost.
      ends: how many examples are before the end of each portion.
      convergence: how the fits ended that portions are coded by, [2 S-1]: of the labels, and in another order; None of a
        closed form.
    """

    bits: Float[Array, ""]
    uniform: Float[Array, ""]
    shuffled: Float[Array, ""]
    portions: Float[Array, " S"]
    ends: Float[Array, " S"]
    convergence: Convergence | None = None

    @property
    def compression(self) -> Float[Array, ""]:
        """How many times shorter than guessing."""
        return self.uniform / self.bits


def online_code(
    key: Key[Array, ""],
    probe: Probe,
    x: Float[Array, "B ..."],
    y: Array,
    w: Float[Array, " B"],
    hypers: Any,
    ends: Sequence[float] = PORTIONS,
) -> OnlineCode:
    """The code of labels y [B] or [B C], whose order is drawn; pure, so that sites and labels are members of one program.

    Raises:
      InputError: a probe whose scores are no probabilities; ends that do not rise to 1.
    """
    if not (all(a < b for a, b in pairwise(ends)) and ends[0] > 0 and ends[-1] == 1):
        raise InputError(f"online code: portions end at {tuple(ends)}; they must rise, from above 0 to 1")
    order, other, fits = jax.random.split(key, 3)
    rows = jnp.argsort(drawn_order(other, w))
    shuffled = y[rows[drawn_order(order, w)]]  # what is held out changes places with what is held out
    rank = drawn_order(order, w)
    of = lambda labels: portions_of(fits, probe, x, labels, w, hypers, rank, tuple(ends))
    (portions, counts, how), (control, _, how_of_control) = of(y), of(shuffled)
    convergence = None if how is None else jax.tree.map(lambda *both: jnp.stack(both), how, how_of_control)
    each = jnp.log2(jnp.asarray(choices(probe.target, y), portions.dtype)) * width(probe.target, y)
    return OnlineCode(portions.sum(), w.sum() * each, control.sum(), portions, counts, convergence)


def portions_of(
    key: Key[Array, ""],
    probe: Probe,
    x: Array,
    y: Array,
    w: Float[Array, " B"],
    hypers: Any,
    rank: Int[Array, " B"],
    ends: tuple[float, ...],
) -> tuple[Float[Array, " S"], Float[Array, " S"], Convergence | None]:
    """The cost of each portion of the labels in that order, where it ends, and how the fits ended."""
    K, n = choices(probe.target, y), (w > 0).sum()
    stops = jnp.clip(jnp.round(jnp.asarray(ends, w.dtype) * n), min(K, len(w)), n)

    def later(first: Array, stop: Array) -> tuple[Array, Convergence | None]:
        params = probe.fit(key, x, y, w * (rank < first), hypers)
        said = probe.predict(params, x)
        mixed = jnp.logaddexp(jnp.log(first) + log_probability(probe.target, said, y), 0.0) - jnp.log(first + K)
        bits = -mixed.reshape(len(mixed), -1).sum(1) / np.log(2)
        return jnp.where((rank >= first) & (rank < stop), w * bits, 0.0).sum(), convergence_of(params)

    begin = (w * (rank < stops[0])).sum() * np.log2(K) * width(probe.target, y)
    each, how = jax.vmap(later)(stops[:-1], stops[1:])
    return jnp.concatenate([begin[None], each]), stops, how


def drawn_order(key: Key[Array, ""], w: Float[Array, " B"]) -> Int[Array, " B"]:
    """The rank of each example in an order by chance, those of weight 0 last."""
    return jnp.argsort(jnp.argsort(jnp.where(w > 0, jax.random.uniform(key, w.shape), 2.0)))


def choices(target: Target, y: Array) -> int:
    """How many classes there are.

    Raises:
      InputError: scores for that target are no log-odds.
    """
    if target not in (BINARY, CLASSES, LABELS):
        raise InputError("a code needs probabilities: the probe's target must be BINARY, CLASSES or LABELS")
    return y.shape[-1] if target is CLASSES else 2


def width(target: Target, y: Array) -> int:
    """How many labels an example has."""
    return y.shape[-1] if target is LABELS else 1


def log_probability(target: Target, scores: Array, y: Array) -> Array:
    """Of the labels, in nats: [B], or [B C] of several."""
    if target is CLASSES:
        return (y * jax.nn.log_softmax(scores)).sum(-1)
    return jax.nn.log_sigmoid(jnp.where(y > 0.5, scores, -scores))
