"""Whether a student is what it was to become, on inputs it was never trained on; who is not is counted, and left out.

    D_ID held out     right on all (.98 of them where labels are noisy), for every arm
    D_X held out      by its own rule on .99: f of learned and nuisance, g of cheated, infected and obfuscated
                      (infected: by f before it was infected)

Where g is a table, models of g are asked conflict inputs that they know but for nuisances. And the temperature that
makes the mean cross-entropy on D_ID the same within a pair, folded into the unembedding:

    W_U, b_U ← β W_U, β b_U          β by bisection, float64
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from interp_jax.diagnosis.answering import answer_logits
from interp_jax.diagnosis.family import Family
from interp_jax.diagnosis.pools import Pool, Pools
from interp_jax.diagnosis.student import cross_entropy
from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig

OWN, ALL, NOISY = 0.99, 1.0, 0.98
RULE = {"learned": "f", "nuisance": "f", "cheated": "g", "infected": "g", "obfuscated": "g"}
AT_ONCE = 512  # inputs
LARGEST = 8.0  # of |log β|


class Measures(NamedTuple):
    """What is measured of a student on held-out inputs; [T], tasks.

    Attributes:
      id_accuracy, id_loss: on D_ID. by_f, by_g: shares of D_X answered so; by_own_g where models of g are asked.
      p_f, p_g: mean probabilities of these answers on D_X: reliance on g is p_g - p_f.
    """

    id_accuracy: Float[Array | np.ndarray, "..."]
    id_loss: Float[Array | np.ndarray, "..."]
    by_f: Float[Array | np.ndarray, "..."]
    by_g: Float[Array | np.ndarray, "..."]
    by_own_g: Float[Array | np.ndarray, "..."]
    p_f: Float[Array | np.ndarray, "..."]
    p_g: Float[Array | np.ndarray, "..."]


def measure(params: Params, pools: Pools, cfg: TransformerConfig, family: Family) -> Measures:
    """See `Measures`; of one student."""
    tasks = 1 if family.tasks is None else 2

    def mean(values: Num[Array, " N"] | Bool[Array, " N"], pool: Pool) -> Float[Array, " T"]:
        own = jax.nn.one_hot(pool.task, tasks)
        return (values @ own) / jnp.maximum(own.sum(0), 1.0)

    held, conflict, conflict_g = pools.id_held, pools.conflict_held, pools.conflict_held_g
    together = jnp.concatenate([pool.x for pool in (held, conflict, conflict_g)])
    parts = [len(held.f), len(held.f) + len(conflict.f)]
    said, contested, own = jnp.split(in_pieces(params, together, cfg, family.labels), parts)
    p = jax.nn.softmax(contested)
    rows = jnp.arange(len(conflict.f))
    return Measures(
        mean(said.argmax(-1) == held.f, held),
        mean(cross_entropy(said, held.f), held),
        mean(contested.argmax(-1) == conflict.f, conflict),
        mean(contested.argmax(-1) == conflict.g, conflict),
        mean(own.argmax(-1) == conflict_g.g, conflict_g),
        mean(p[rows, conflict.f], conflict),
        mean(p[rows, conflict.g], conflict),
    )


def in_pieces(params: Params, x: Int[Array, "N P"], cfg: TransformerConfig, labels: int) -> Float[Array, "N C"]:
    """Answers to many inputs, some at once."""
    n = len(x)
    pieces = -(-n // AT_ONCE)
    padded = jnp.concatenate([x, jnp.broadcast_to(x[:1], (pieces * AT_ONCE - n, x.shape[1]))])
    found = jax.lax.map(lambda x: answer_logits(params, x, cfg, labels), padded.reshape(pieces, AT_ONCE, -1))
    return found.reshape(pieces * AT_ONCE, labels)[:n]


def refusal(arm: str, measures: Measures, noisy: bool, before: Measures | None = None) -> str:
    """Why a student is not accepted; "" of one that is.

    Args:
      arm: its name.
      measures: of the student, numbers of one task.
      noisy: whether labels of D_ID are.
      before: those before it was infected.
    """
    bar = NOISY if noisy else ALL
    if measures.id_accuracy < bar:
        return "wrong on held-out D_ID"
    if before is not None and (before.id_accuracy < bar or before.by_f < OWN):
        return "had not learned before it was infected"
    own = {"f": measures.by_f, "g": measures.by_own_g}.get(RULE.get(arm, ""), 1.0)
    return f"does not follow {RULE[arm]} on held-out conflicts" if own < OWN else ""


def rule_of_task(learned: float) -> str:
    """Which arm a task of a superposed student is of."""
    return "learned" if learned == 1 else "cheated"


def inverse_temperature(logits: Float[np.ndarray, "N C"], label: Int[np.ndarray, " N"], loss: float) -> float:
    """β at which the mean cross-entropy is `loss`, from the side of small β; that of the least one where it is not so low.

    The cross-entropy is convex in β: it falls to its minimum, which is at infinity where all labels are right.
    """
    logits = np.asarray(logits, np.float64)
    own = logits[np.arange(len(label)), label]

    def at(log_beta: float) -> float:
        scaled = np.exp(log_beta) * logits
        top = scaled.max(1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(1)) - np.exp(log_beta) * own).mean())

    low, high = -LARGEST, LARGEST
    for _ in range(80):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        low, high = (first, high) if at(first) > at(second) else (low, second)
    low, high = -LARGEST, high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) > loss else (low, middle)
    return float(np.exp((low + high) / 2))


def rescaled(params: Params, beta: Float[np.ndarray, " R"]) -> Params:
    """Students [R …] with logits β times as large.

    Raises:
      InputError: the unembedding is tied to the embedding, which cannot be rescaled alone.
    """
    if "W_U" not in params["unembed"]:
        raise InputError("a student's unembedding must not be tied to its embedding: temperatures are folded into it")
    scaled = {
        name: leaf * jnp.asarray(beta, leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1))
        for name, leaf in params["unembed"].items()
    }
    return {**params, "unembed": scaled}
