"""What a cure is given and what it gives: patients of one family, where their shortcut sits, and inputs of D_ID.

A cure sees what the declared rule says of D_ID and what a diagnosis says of the patient: no conflict input, no rival. What it
gives are weights, and edits that stay in force for good: what was cut is not read any more.

    ward            R patients of the same shape
    diagnosis       of each, how much of the shortcut each position, head and neuron carries
    exercises       inputs of D_ID that were trained on, with the declared rule's labels and what each position decides of it
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax.diagnosis.answering import Edits, answers
from interp_jax.diagnosis.pools import Pool
from interp_jax.diagnosis.profiles import distribution
from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig

LOOKED_AT = 512  # inputs that a prescription is made of
AT_ONCE = 512  # that are answered at once


class Ward(NamedTuple):
    """Patients of one family.

    Attributes:
      cfg, labels: of all. params: leaves [R …]. seeds: [R].
    """

    cfg: TransformerConfig
    labels: int
    params: Params
    seeds: Int[np.ndarray, " R"]

    @property
    def n(self) -> int:
        """How many patients there are."""
        return len(self.seeds)

    def of(self, rows: Int[np.ndarray, " Q"]) -> "Ward":
        """Some of them."""
        params = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], self.params)
        return self._replace(params=params, seeds=np.asarray(self.seeds)[rows])

    def patient(self, r: int) -> Params:
        """The weights of one."""
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[r]), self.params)


class Diagnosis(NamedTuple):
    """How much of the shortcut each part carries, larger for more; 0 and below for none.

    Attributes:
      positions: of the input. cut: which share of what a position says is beyond the declared rule, 0 … 1.
      heads, neurons: of all layers.
    """

    positions: Float[Array | np.ndarray, "*R P"]
    cut: Float[Array | np.ndarray, "*R P"]
    heads: Float[Array | np.ndarray, "*R L H"]
    neurons: Float[Array | np.ndarray, "*R L M"]


@flax.struct.dataclass
class Exercises:
    """Inputs of D_ID with the declared rule's labels.

    Attributes:
      x, label: sorted by label. first, count: of each label that occurs, where its rows begin and how many they are.
      influence: of positions on the declared rule, mean over inputs.
    """

    x: Int[Array | np.ndarray, "N P"]
    label: Int[Array | np.ndarray, " N"]
    first: Int[Array | np.ndarray, " C"]
    count: Int[Array | np.ndarray, " C"]
    influence: Float[Array | np.ndarray, " P"]

    def balanced(self, u: Float[Array, "2 B"]) -> Int[Array, " B"]:
        """Rows with all labels alike, from uniform numbers."""
        which = (u[0] * len(self.first)).astype(jnp.int32)
        return self.first[which] + jnp.minimum((u[1] * self.count[which]).astype(jnp.int32), self.count[which] - 1)

    def some(self, n: int = LOOKED_AT) -> Int[np.ndarray, " n"]:
        """Rows with all labels alike as far as they go, the same at every call."""
        u = np.random.default_rng(0).random((2, n))
        which = (u[0] * len(self.first)).astype(int)
        first, count = (np.asarray(own)[which] for own in (self.first, self.count))
        return first + (u[1] * count).astype(int)


class Prescription(NamedTuple):
    """What a patient is given; leaves [R N …].

    Attributes:
      params: weights to begin with. edits: in force from then on.
      teacher: where there is one, weights whose answers under the same edits are learned as well.
      hidden: the most positions of each input that are hidden at random while the patient learns; edits of `embed` say as what.
    """

    params: Params
    edits: Edits
    teacher: Params | None = None
    hidden: Int[Array | np.ndarray, "*R"] | None = None


class Cured(NamedTuple):
    """Weights, and edits that stay."""

    params: Params
    edits: Edits


def exercises_of(pool: Pool, influence: Float[np.ndarray, " P"]) -> Exercises:
    """Those of a pool of D_ID, where f and g say the same, so that it does not matter which is declared.

    Args:
      pool: inputs of D_ID that were trained on.
      influence: of positions on the declared rule, mean over inputs.

    Raises:
      InputError: there is none.
    """
    if not len(pool.f):
        raise InputError("a cure needs inputs of D_ID, and there is none")
    label = np.asarray(pool.f)
    order = np.argsort(label, kind="stable")
    _, first, count = np.unique(label[order], return_index=True, return_counts=True)
    return Exercises(
        np.asarray(pool.x)[order], label[order], first.astype(np.int32), count.astype(np.int32), np.float32(influence)
    )


def beyond(positions: Float[np.ndarray, "*R P"], exercises: Exercises) -> Float[np.ndarray, "*R P"]:
    """Which share of what each position says the declared rule does not account for: e / (e + rule), e the excess."""
    rule = np.asarray(distribution(jnp.asarray(exercises.influence), jnp.asarray(exercises.x)))
    excess = np.maximum(np.asarray(positions, np.float64), 0.0)
    total = excess + rule
    return np.float32(np.where(excess > 0, excess / np.where(total > 0, total, 1.0), 0.0))


def settled(influence: Float[Array | np.ndarray, " P"], labels: int) -> Float[Array | np.ndarray, " P"]:
    """Of each position, the share of the declared answers that are anyone's guess without it: C / (C - 1) times its influence.

    The influence is how often another token there changes the answer, and a guess among C labels is right once in C.
    """
    return (influence * (labels / (labels - 1))).clip(0.0, 1.0)


def largest(scores: Float[Array | np.ndarray, "*R C"], n: int) -> Bool[np.ndarray, "*R C"]:
    """The n with the largest scores, of those above 0."""
    scores = np.asarray(scores)
    rank = np.argsort(np.argsort(-scores, axis=-1, kind="stable"), axis=-1, kind="stable")
    return (rank < n) & (scores > 0)


def many_answers(
    cured: Cured, x: Int[Array | np.ndarray, "N P"], cfg: TransformerConfig, labels: int
) -> Float[Array, "N C"]:
    """Answers to many inputs, some at once."""
    n = len(x)
    pieces = -(-n // AT_ONCE)
    x = jnp.asarray(x)
    padded = jnp.concatenate([x, jnp.broadcast_to(x[:1], (pieces * AT_ONCE - n, x.shape[1]))])
    one = lambda x: answers(cured.params, cured.edits, x, cfg, labels)
    return jax.lax.map(one, padded.reshape(pieces, AT_ONCE, -1)).reshape(-1, labels)[:n]


def stacked(members: list[Any]) -> Any:
    """One tree with a new leading axis."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), members[0], *members[1:])
