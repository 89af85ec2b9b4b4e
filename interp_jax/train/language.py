"""The language-modelling objective: -log p(token | tokens before it), in nats."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig


def token_losses(logits: Float[Array, "B P V"], targets: Int[Array, "B P"]) -> Float[Array, "B P"]:
    """Cross-entropy of every target under the logits at its position."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def next_token_losses(params: Params, tokens: Int[Array, "B N"], cfg: TransformerConfig) -> Float[Array, "B N-1"]:
    """The loss of every token but the first, given those before it."""
    return token_losses(transformer.apply(params, tokens[:, :-1], cfg), tokens[:, 1:])
