"""What a language model gains from context: loss by position, and the in-context-learning score.

    loss by position   l[p] = mean over windows of the loss of the p-th prediction, which sees p + 1 tokens
    score              mean of l around a late position - mean around an early one     (negative: context helps)

Olsson et al. 2022 and Kaplan et al. 2020 compare tokens 500 and 50; here they are the last tenth of the context and a tenth
around one fifth of it, so that short contexts have a score too.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Places(NamedTuple):
    """The two ranges of positions that the score compares."""

    early: slice
    late: slice


def places(n_positions: int) -> Places:
    """A tenth of the context from one fifth of it on, and its last tenth."""
    width = max(1, n_positions // 10)
    start = n_positions // 5
    return Places(slice(start, start + width), slice(n_positions - width, n_positions))


def loss_by_position(losses: Float[Array, "B P"]) -> Float[Array, " P"]:
    """Mean over windows."""
    return losses.mean(0)


def in_context_score(losses: Float[Array, "B P"]) -> Float[Array, ""]:
    """Nats per token that late positions cost more than early ones; negative where context helps."""
    by_position = loss_by_position(losses)
    early, late = places(losses.shape[1])
    return by_position[late].mean() - by_position[early].mean()


class Improved(NamedTuple):
    """Tokens whose loss fell most, best first.

    Attributes:
      window, position: where the predicted token stands: `tokens[window, position]`.
      before, after: its loss, in nats.
    """

    window: Int[Array, " N"]
    position: Int[Array, " N"]
    before: Float[Array, " N"]
    after: Float[Array, " N"]


def most_improved(before: Float[Array, "B P"], after: Float[Array, "B P"], count: int) -> Improved:
    """The prediction of each window that gained most between two checkpoints, for the `count` windows where it gained most.

    One per window, since what is learned about one table or phrase would fill the list. [b, p] predicts token p + 1 of b.
    """
    gain = before - after
    column = gain.argmax(1)
    window = jnp.argsort(-gain.max(1))[:count]
    column = column[window]
    return Improved(window, column + 1, before[window, column], after[window, column])
