"""What is measured of a patched run: one number per example, of the logits at one position.

    logit difference        mean of the answers' logits - mean of the others'
    probability difference  Σ over answers of softmax(logits) - Σ over others (Hanna et al. 2023)
    probability             Σ over answers of softmax(logits)
    log probability         log of that
    loss                    -log probability
    KL                      Σ p (log p - log q), p the reference's distribution, q the run's
    rank                    how many tokens have a higher logit than the first answer; 0 is best; has no gradient

    normalised = (metric - corrupted) / (clean - corrupted)          0 at the corrupted run, 1 at the clean one

Sets of tokens may be of unequal size: -1 is no token. A metric that reads few tokens says which, so that only their columns of
W_U are ever multiplied.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from interp_jax.errors import InputError

NO_TOKEN = -1  # where a set has fewer tokens than the largest
Numbers = Float[Array | np.ndarray, "..."]
Answers = Integer[Array | np.ndarray, "..."]  # [B] or [B N]


@flax.struct.dataclass
class Metric:
    """A function of logits, and what it reads of each example.

    Attributes:
      name: for people; static.
      function: (logits [B V], or [B N] where `tokens` says which; data) -> [B]; static, so give a function of a module
        and not a new lambda each time, which would be compiled again.
      data: a pytree of arrays, each with a leading B axis.
      tokens: [B N], the tokens whose logits are read; None for all of them.
    """

    name: str = flax.struct.field(pytree_node=False)
    function: Callable[[Array, Any], Array] = flax.struct.field(pytree_node=False)
    data: Any = None
    tokens: Any = None

    def __call__(self, logits: Float[Array, "B N"]) -> Float[Array, " B"]:
        """The metric of logits: of all tokens, or of `tokens` where they are given."""
        return self.function(logits, self.data)

    def of(self, logits: Float[Array, "B V"]) -> Float[Array, " B"]:
        """The metric of the logits of all tokens."""
        return self(logits if self.tokens is None else jnp.take_along_axis(logits, self.tokens, axis=1))


def logit_difference(answers: Answers, others: Answers) -> Metric:
    """Mean logit of the answers less that of the others; each [B], or [B N] for sets of tokens.

    Raises:
      InputError: different numbers of examples.
    """
    answers, others = _sets(answers), _sets(others)
    if len(answers) != len(others):
        raise InputError(f"answers are given for {len(answers)} examples, others for {len(others)}")
    mean = [given / given.sum(1, keepdims=True) for given in (answers >= 0, others >= 0)]
    weights = jnp.concatenate([mean[0], -mean[1]], axis=1).astype(jnp.float32)
    tokens = jnp.maximum(jnp.concatenate([answers, others], axis=1), 0)
    return Metric("logit difference", _weighted, weights, tokens)


def probability_difference(answers: Answers, others: Answers) -> Metric:
    """The probability of all the answers less that of all the others."""
    return Metric("probability difference", _probability_difference, (_sets(answers), _sets(others)))


def probability(answers: Answers) -> Metric:
    """The probability of all the answers together."""
    return Metric("probability", _probability, _sets(answers))


def log_probability(answers: Answers) -> Metric:
    """Its logarithm, in nats."""
    return Metric("log probability", _log_probability, _sets(answers))


def loss(answers: Answers) -> Metric:
    """Cross-entropy, in nats."""
    return Metric("loss", _loss, _sets(answers))


def kl(reference: Float[Array | np.ndarray, "B V"]) -> Metric:
    """KL divergence, in nats, of the run from the distribution that the reference's logits stand for."""
    return Metric("KL divergence", _kl, jax.nn.log_softmax(jnp.asarray(reference)))


def rank(answers: Answers) -> Metric:
    """How many tokens are likelier than the first answer."""
    return Metric("rank", _rank, _sets(answers))


def custom(name: str, function: Callable[[Array, Any], Array], data: Any = None) -> Metric:
    """Any function (logits [B V], data) -> [B] of a module; leaves of `data` have a leading B axis."""
    return Metric(name, function, data)


def normalised(metric: Numbers, corrupted: Numbers, clean: Numbers) -> Float[np.ndarray, "*cells"]:
    """The mean metric over examples of [*cells B], 0 at the corrupted run [B] and 1 at the clean one [B].

    Means are divided, not examples: one example whose two runs are alike would swamp all others.

    Raises:
      InputError: the two runs do not differ, but for rounding, so that there is nothing to restore.
    """
    metric, corrupted, clean = (np.asarray(x) for x in (metric, corrupted, clean))
    span = clean.mean() - corrupted.mean()
    if abs(span) <= 8 * np.finfo(clean.dtype).eps * max(np.abs(clean).max(), np.abs(corrupted).max()):
        raise InputError("the metric is the same on clean and corrupted runs: there is no effect to restore")
    return (metric.mean(-1) - corrupted.mean()) / span


def check_finite(values: ArrayLike, name: str) -> None:
    """Raise `InputError` that names the first example [..., B] whose metric is not finite."""
    bad = np.argwhere(~np.isfinite(np.asarray(values)))
    if len(bad):
        where = "" if bad.shape[1] == 1 else f", cell {tuple(map(int, bad[0][:-1]))}"
        raise InputError(f"the metric {name!r} is {np.asarray(values)[tuple(bad[0])]} on example {bad[0][-1]}{where}")


def check_tokens(metric: Metric, d_vocab: int) -> None:
    """Raise `InputError` where a metric reads a token that the model does not have."""
    if metric.function not in OF_TOKENS:
        return
    for leaf in jax.tree.leaves(metric.data if metric.tokens is None else metric.tokens):
        tokens = np.asarray(leaf)
        bad = np.argwhere((tokens < NO_TOKEN) | (tokens >= d_vocab) | (tokens == NO_TOKEN).all(1, keepdims=True))
        if len(bad):
            token, row = int(tokens[tuple(bad[0])]), int(bad[0][0])
            raise InputError(
                f"the metric {metric.name!r} reads token {token} of example {row}: ids go from 0 to {d_vocab - 1}"
            )


def _sets(tokens: Any) -> Array:
    """[B N] from [B] or [B N]."""
    tokens = np.asarray(tokens)
    return jnp.asarray(tokens[:, None] if tokens.ndim == 1 else tokens, jnp.int32)


def _weighted(logits: Array, weights: Array) -> Array:
    return (logits * weights.astype(logits.dtype)).sum(-1)


def _log_probability(logits: Array, answers: Array) -> Array:
    said = jnp.take_along_axis(logits, jnp.maximum(answers, 0), axis=-1)
    said = jnp.where(answers >= 0, said, -jnp.inf)
    return jax.nn.logsumexp(said, axis=-1) - jax.nn.logsumexp(logits, axis=-1)


def _probability(logits: Array, answers: Array) -> Array:
    return jnp.exp(_log_probability(logits, answers))


def _probability_difference(logits: Array, sets: tuple[Array, Array]) -> Array:
    return _probability(logits, sets[0]) - _probability(logits, sets[1])


def _loss(logits: Array, answers: Array) -> Array:
    return -_log_probability(logits, answers)


def _kl(logits: Array, reference: Array) -> Array:
    reference = reference.astype(logits.dtype)
    return (jnp.exp(reference) * (reference - jax.nn.log_softmax(logits))).sum(-1)


def _rank(logits: Array, answers: Array) -> Array:
    said = jnp.take_along_axis(logits, answers[:, :1], axis=-1)
    return (logits > said).sum(-1).astype(logits.dtype)


OF_TOKENS = (_weighted, _probability, _probability_difference, _log_probability, _loss, _rank)
