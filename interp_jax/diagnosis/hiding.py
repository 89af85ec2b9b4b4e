"""Positions of inputs that are hidden at random while a patient learns, and what is then to be said.

Each input of a step loses k positions, k = 0 … n alike, drawn anew by 1 / P + their share of what decides the declared rule:

    x_i ← (1 - w_i) x_i + w_i (mean + σ Σ_m ε_m (x_mi - mean) / √B)      m inputs of the step, ε ~ N(0, 1)
    w_i = 1 of what is hidden, else BLUR · u, u uniform in 0 … 1
    target = left · label + (1 - left) · uniform      left = Π over hidden i of (1 - settled_i), see `ward.settled`

What is hidden has no mark of its own: were all else as clear as ever, it would pay to notice that something is hidden, and to
say less, rather than to miss what was there.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax import randomness
from interp_jax.diagnosis.answering import Edits
from interp_jax.diagnosis.ward import settled

SPREAD, BLUR = 0.5, 0.4  # σ; the most by which what is not hidden is blurred


def hidden_at(
    influence: Float[Array, " P"],
    most: Int[Array, ""] | int,
    seed: Int[Array, ""] | int,
    t: Int[Array, ""] | int,
    n: int,
) -> Bool[Array, "B P"]:
    """Which positions of each of n inputs of a step are hidden, up to so many."""
    positions = len(influence)
    weight = 1 / positions + influence / jnp.maximum(influence.sum(), 1e-9)
    u = randomness.uniform("counter", seed, "cure/hidden", t, (n, positions + 1))
    k = (u[:, -1:] * (most + 1)).astype(jnp.int32)
    arrival = -jnp.log(u[:, :-1]) / weight  # the first k to come are as many draws without replacement
    return jnp.argsort(jnp.argsort(arrival, axis=1), axis=1) < k


def without(
    target: Float[Array, "B C"], where: Bool[Array, "B P"], influence: Float[Array, " P"]
) -> Float[Array, "B C"]:
    """What is to be said of inputs without these positions."""
    labels = target.shape[1]
    left = (1 - where * settled(influence, labels)).prod(1, keepdims=True)
    return left * target + (1 - left) / labels


def hiding(
    edits: Edits,
    where: Bool[Array, "B P"],
    embedded: Float[Array, "B P D"],
    seed: Int[Array, ""] | int,
    t: Int[Array, ""] | int,
) -> Edits:
    """Edits that hide positions besides, as what those of `embed` put there, and noise, and blur the others."""
    (edit,), n = edits["embed"], len(where)
    weights = jax.random.normal(randomness.key(seed, "cure/noise", t), (n, *embedded.shape[:2]))
    noise = jnp.einsum("bmp,mpd->bpd", weights, embedded - embedded.mean(0)) / n**0.5
    blur = BLUR * randomness.uniform("counter", seed, "cure/blur", t, where.shape)
    there = jnp.where(where, 1.0, blur)[:, :, None]
    value = edit.value + SPREAD * (there > edit.where) * noise  # what is cut by more stays cut
    return {**edits, "embed": (edit.replace(value=value, where=jnp.maximum(edit.where, there)),)}
