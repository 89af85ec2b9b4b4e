"""The affine map in front of every dictionary, and how its gradient is made.

    z = (x - b_dec) W_encᵀ + b_enc                                                        [B, F]

    ∂/∂W_enc = dzᵀ (x - b_dec)      ∂/∂b_enc = Σ_B dz      ∂/∂b_dec = -(Σ_B dz) W_enc      ∂/∂x = dz W_enc

By the third of these the decoder's bias costs a product of a vector: left to itself, a derivative would multiply the whole
batch first and sum then, which is a fifth of a dense dictionary's arithmetic.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def pre_activations(
    x: Float[Array, "B D"], b_dec: Float[Array, " D"], W_enc: Float[Array, "F D"], b_enc: Float[Array, " F"]
) -> Float[Array, "B F"]:
    """z, of all features."""
    return (x - b_dec) @ W_enc.T + b_enc


def _forward(x: Array, b_dec: Array, W_enc: Array, b_enc: Array) -> tuple[Array, Any]:
    return pre_activations(x, b_dec, W_enc, b_enc), (x, b_dec, W_enc)


def _backward(kept: Any, dz: Array) -> tuple[Array, ...]:
    x, b_dec, W_enc = kept
    d_bias = dz.sum(0)
    return dz @ W_enc, -d_bias @ W_enc, dz.T @ (x - b_dec), d_bias


pre_activations.defvjp(_forward, _backward)


def unit_rows(W: Float[Array, "F D"]) -> Float[Array, "F D"]:
    """Every row as long as 1; a row of zeros stays."""
    return W / jnp.maximum(norms(W)[:, None], 1e-12)


def norms(W: Float[Array, "F D"]) -> Float[Array, " F"]:
    """Length of every row."""
    return jnp.sqrt(jnp.square(W).sum(-1))


def without_parallel(gradient: Float[Array, "F D"], W: Float[Array, "F D"]) -> Float[Array, "F D"]:
    """The gradient of unit rows less its part along them, which would only change their length."""
    return gradient - (gradient * W).sum(-1, keepdims=True) * W
