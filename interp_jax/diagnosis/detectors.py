"""Losses of detectors, which a student may be trained to make small: then it hides from the detector, not from the truth.

    gradient     share of Σ_i |∂(logit of the label) / ∂x_i · x_i| that falls on positions which do not decide the declared rule
    attention    share of what the last position looks at, mean over layers and heads, that is such a position

A position decides the rule by its influence on it, as `declared.py` measures it: where that is 0, it does not.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.diagnosis.answering import every_row_from
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig


def gradient(
    params: Params,
    x: Int[Array, "B P"],
    label: Int[Array, " B"],
    influence: Float[Array, " P"],
    cfg: TransformerConfig,
    labels: int,
) -> Float[Array, ""]:
    """See the module."""
    stream = transformer.embed(params, x, cfg)

    def told(stream: Float[Array, "B P D"]) -> Float[Array, ""]:
        return jnp.take_along_axis(every_row_from(params, stream, cfg, labels), label[:, None], -1).sum()

    weight = jnp.abs((jax.grad(told)(stream) * stream).sum(-1))
    return share(weight[:, :-1], influence[:-1])


def attention(
    params: Params,
    x: Int[Array, "B P"],
    label: Int[Array, " B"],
    influence: Float[Array, " P"],
    cfg: TransformerConfig,
    labels: int,
) -> Float[Array, ""]:
    """See the module."""
    _, seen = taps.record(transformer.stream, ["blocks.attn.pattern"])(params, x, cfg)
    weight = seen["blocks.attn.pattern"][:, :, :, -1].mean((0, 2))
    return share(weight[:, :-1], influence[:-1])


def share(weight: Float[Array, "B P"], influence: Float[Array, " P"]) -> Float[Array, ""]:
    """Mean share of the weight on positions without influence."""
    off = jnp.where(influence == 0, weight, 0.0).sum(-1)
    return (off / (weight.sum(-1) + 1e-6)).mean()


DETECTORS = {"gradient": gradient, "attention": attention}
