"""The logit lens: what the model would say if it stopped at a layer (nostalgebraist 2020, "interpreting GPT: the logit lens").

    logits[l] = W_U^T ln_final(stream[l]) + b_U            ln_final applied to each layer's own stream, not frozen

The streams are recorded at "blocks.resid_post" (after each layer) or "blocks.resid_pre" (before it), or accumulated from
components. What is read at an early layer is only as good as the basis of that layer is that of the last.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig


class LensScores(NamedTuple):
    """How near each layer is to a target, and to the last layer.

    Attributes:
      log_probability: of the target, in nats.
      rank: how many tokens have a higher logit than the target; 0 is the top.
      kl_to_last: KL(last layer ‖ this layer) in nats.
    """

    log_probability: Float[Array, "L B P"]
    rank: Int[Array, "L B P"]
    kl_to_last: Float[Array, "L B P"]


def logit_lens(params: Params, streams: Float[Array, "L B P D"], cfg: TransformerConfig) -> Float[Array, "L B P V"]:
    """Logits of every layer's stream; those of the last layer are the model's.

    Raises:
      InputError: a model without logits.
    """
    return transformer.unembed(params, streams, cfg)


def lens_scores(logits: Float[Array, "L B P V"], targets: Int[Array, "#B #P"]) -> LensScores:
    """Scores of each layer's logits against `targets` and the last layer; NaN and rank V for a target beyond V."""
    log_p = jax.nn.log_softmax(logits)
    beyond = jnp.where(targets < 0, logits.shape[-1], targets)  # a negative index would count from the end
    at = jnp.broadcast_to(beyond[None, ..., None], (*logits.shape[:3], 1))
    of_target = jnp.take_along_axis(log_p, at, axis=-1, mode="fill", fill_value=jnp.nan)
    rank = (~(log_p <= of_target)).sum(-1)  # so written, NaN ranks last
    kl = (jnp.exp(log_p[-1]) * (log_p[-1] - log_p)).sum(-1)
    return LensScores(of_target[..., 0], rank, kl)
