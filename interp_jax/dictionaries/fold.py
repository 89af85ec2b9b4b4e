"""A dictionary of normalised activations as one of the activations themselves, for publishing and for reading as it is.

With n(x) = (x - c) A on what is read, and n'(y) = (y - c') A' on what is said, a dictionary of n(x) is, on x,

    W_enc ← W_enc Aᵀ        b_dec ← b_dec A⁻¹ + c                            of what says what it reads, b_dec taken off first
                            b_enc ← b_enc - c A W_encᵀ                       of what does not take its bias off
    W_dec ← W_dec A'⁻¹      b_dec ← b_dec A'⁻¹ + c'      W_skip ← A'⁻ᵀ W_skip Aᵀ,   b_dec ← b_dec - c A W_skipᵀ A'⁻¹

with the same features. Its rows need not be of length 1 any more, so it is for encoding and decoding, not for training on.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from interp_jax.activations.normaliser import Normaliser, times
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.parameters import Params
from interp_jax.errors import InputError


def folded(params: Params, cfg: Dictionary, read: Normaliser, write: Normaliser) -> Params:
    """The parameters on activations as they are.

    Args:
      params: on normalised activations.
      cfg: of the dictionary.
      read: the map of what is read.
      write: the map of what is said; the same where it says what it reads.

    Raises:
      InputError: a kind whose encoder is not an affine map.
    """
    if cfg.kind in ("matching_pursuit", "cross_layer"):
        raise InputError(f"dictionary.kind: the normalisation cannot be folded into {cfg.kind!r}; keep it beside")
    own_bias = cfg.centred and not cfg.d_out
    shift = times(read.centre, read.forward)  # n(x) = x A - c A
    new = params | {"W_enc": times(params["W_enc"], transposed(read.forward))}
    new["W_dec"] = times(params["W_dec"], write.back)
    new["b_dec"] = times(params["b_dec"], write.back) + write.centre
    if not own_bias:
        moved = shift @ params["W_enc"].T
        new["b_enc"] = params["b_enc"] - moved
    if cfg.kind == "gated" and not own_bias:
        new["b_mag"] = params["b_mag"] - jnp.exp(params["r_mag"]) * moved
    if cfg.skip:
        through = times(params["W_skip"].T, write.back)  # n(x) ↦ what is added to what is said
        new["W_skip"] = times(through.T, transposed(read.forward))
        new["b_dec"] = new["b_dec"] - shift @ through
    return new


def transposed(matrix: Float[Array | np.ndarray, "..."]) -> Float[Array | np.ndarray, "..."]:
    """Of a matrix, or of its diagonal."""
    return matrix.T if matrix.ndim == 2 else matrix
