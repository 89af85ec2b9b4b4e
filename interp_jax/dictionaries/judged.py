"""What every kind of dictionary is given in training, and what its loss says.

    squared_error = mean over examples of ‖y - ŷ‖²                 summed over the width, as in all the papers

Any other error of what is said may take its place, for every kind: `Batch.error`, as in `end_to_end.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax.dictionaries.config import Dictionary


class Batch(NamedTuple):
    """What is read and what is to be said of it; the same for autoencoders.

    Attributes:
      x: what is read.
      y: what is to be said.
      error: of what is said; by default the squared error from y.
    """

    x: Float[Array, "B D"]
    y: Float[Array, "B O"]
    error: Callable[[Float[Array, "B O"]], Float[Array, ""]] | None = None


class Situation(NamedTuple):
    """Where training stands.

    Attributes:
      progress: the share of the steps that are done.
      dead: which features have not fired for long.
      factor: by how much the control of L0 multiplies the penalty.
      revives: whether dead features are brought back; None where there are any, which is found out while it runs.
    """

    progress: Float[Array, ""]
    dead: Bool[Array, " F"]
    factor: Float[Array, ""] | float = 1.0
    revives: bool | None = None


class Judged(NamedTuple):
    """A loss.

    Attributes:
      loss: what is minimised.
      terms: its parts and what else is worth a curve, by name.
      fired: in how many examples each feature is active.
      settled: parameters that are measured and not learned, to be set after the step.
      left: what is not reconstructed, of kinds that bring dead features back by it.
    """

    loss: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]
    fired: Int[Array, " F"]
    settled: dict[str, Any]
    left: Float[Array, "B O"] | None = None


def squared_error(y: Float[Array, "B O"], reconstruction: Float[Array, "B O"]) -> Float[Array, ""]:
    """Mean over examples of the squared distance."""
    return jnp.square(y - reconstruction).sum(-1).mean()


def error_of(batch: Batch, said: Float[Array, "B O"]) -> Float[Array, ""]:
    """The error of what is said of a batch."""
    return squared_error(batch.y, said) if batch.error is None else batch.error(said)


def in_use(cfg: Dictionary) -> Bool[Array, " F"]:
    """The features that a member of the population has."""
    return (jnp.arange(cfg.n_features) < cfg.width) | (cfg.width == 0)


def penalty_weight(cfg: Dictionary, situation: Situation) -> Float[Array, ""]:
    """`sparsity`, warmed up and controlled."""
    return cfg.sparsity * situation.factor * warmed(cfg, situation)


def k_now(cfg: Dictionary, situation: Situation) -> Int[Array, ""]:
    """k, which falls from `most` during the warm-up."""
    return jnp.round(cfg.k + (cfg.most - cfg.k) * (1.0 - warmed(cfg, situation))).astype(jnp.int32)


def warmed(cfg: Dictionary, situation: Situation) -> Float[Array, ""]:
    """The share of the warm-up that is done; all of it where there is none."""
    share = situation.progress / jnp.maximum(cfg.sparsity_warmup, 1e-9)
    return jnp.where(cfg.sparsity_warmup > 0, jnp.minimum(1.0, share), 1.0)


def count(active: Bool[Array, "B F"]) -> Int[Array, " F"]:
    """In how many examples each feature is active."""
    return active.sum(0, dtype=jnp.int32)
