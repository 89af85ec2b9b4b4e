"""Representation fine-tuning of all targets, layers and learning rates: a population for each form, the best rate of each."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import parts, randomness
from interp_jax.experiments.steering.reading import SITE, Asked
from interp_jax.models import transformer
from interp_jax.models.transformer import Params
from interp_jax.steering.fine_tuning import Example, Hypers, tuned, tuning_run
from interp_jax.train.optimizer import Optimizer


class Wanted(NamedTuple):
    """Text to learn from.

    Attributes:
      tokens: windows.
      weights: tokens that are wanted, by target.
      index: windows that have some, as many for each target; few of them come again.
    """

    tokens: Int[Array, "W P"]
    weights: Float[Array, "T W P"]
    index: Int[Array, "T N"]


class Learned(NamedTuple):
    """The best of the rates.

    Attributes:
      reft, loreft: parameters, leaves [T L ...].
      rate: of both, [2 T L].
      loss: -log p of the tokens that are wanted, likewise.
    """

    reft: Any
    loreft: Any
    rate: Float[np.ndarray, "2 T L"]
    loss: Float[np.ndarray, "2 T L"]


def wanted_text(asked: Asked) -> Wanted:
    """Tokens by which the text decided for the target, in windows that directions are found on."""
    weights = np.stack([np.pad(target.positive[asked.fit][:, :-1], ((0, 0), (1, 0))) for target in asked.targets])
    having = [np.flatnonzero(own.any(1)) for own in weights]
    index = np.stack([np.resize(own, max(map(len, having))) for own in having])
    return Wanted(jnp.asarray(asked.data.tokens[asked.fit]), jnp.float32(weights), jnp.asarray(index))


def draw(n: int, hypers: Hypers, data: Wanted, seed: Array, step: Array) -> Example:
    """The windows of a step."""
    chosen = jax.random.randint(randomness.key(seed, "steering.text", step), (n,), 0, data.index.shape[1])
    rows = data.index[hypers.text, chosen]
    return Example(data.tokens[rows], data.weights[hypers.text, rows])


def learn(asked: Asked, params: Params) -> Learned:
    """Both forms."""
    of, shape = asked.config.tuning, (len(asked.targets), asked.cfg.n_layers, len(asked.config.tuning.rates))
    members = [
        Hypers(asked.seed, layer, Optimizer(learning_rate=of.rates[r], decay="cosine"), of.k, of.penalty, t)
        for t, layer, r in np.ndindex(shape)
    ]
    model, shared = partial(transformer.apply, cfg=asked.cfg), (params, wanted_text(asked))
    kept, rates, losses = [], [], []
    for form, rank in (("reft_r1", 1), ("loreft", min(of.rank, asked.cfg.d_model))):
        run = tuning_run(form, model, SITE, asked.cfg.d_model, partial(draw, of.batch_size), of.steps, rank)
        found = tuned(run, parts.stack(members), shared, of.steps)
        loss = np.where(np.asarray(found.diverged_at) < 0, found.loss, np.inf).reshape(shape)
        best = loss.argmin(-1)
        flat = np.arange(best.size) * shape[-1] + best.ravel()
        kept.append(
            jax.tree.map(lambda leaf, flat=flat: leaf[flat].reshape(*shape[:2], *leaf.shape[1:]), found.params)
        )
        rates.append(np.array(of.rates)[best])
        losses.append(loss.min(-1))
    return Learned(*kept, np.stack(rates), np.stack(losses))
