"""First parameters of dictionaries.

    W_dec   rows of random directions; W_enc the same rows where widths agree ("tied initialisation": Conerly et al. 2024)
    b_dec   0; to begin at a mean or a geometric median, activations are centred (`activations/normaliser.py`)

Rows of `W_enc` [F D] and of `W_dec` [F O] are features: so few features of a batch are few rows of either.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import norms, unit_rows

Params = dict[str, Float[Array, "..."]]


def initial(key: Key[Array, ""], cfg: Dictionary, length: Float[Array, ""] | float = 1.0) -> Params:
    """An encoder and a decoder whose rows have this length."""
    decoder, encoder = jax.random.split(key)
    W_dec = length * unit_rows(jax.random.normal(decoder, (cfg.n_features, cfg.width_out)))
    if cfg.width_out == cfg.d_in:
        W_enc = W_dec
    else:
        W_enc = length * unit_rows(jax.random.normal(encoder, (cfg.n_features, cfg.d_in)))
    b_enc, b_dec = jnp.zeros(cfg.n_features), jnp.zeros(cfg.width_out)
    return {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}


def centre(params: Params, cfg: Dictionary) -> Float[Array, " D"]:
    """What is taken off what the dictionary reads: its own bias, where it writes what it reads."""
    return params["b_dec"] if cfg.centred and not cfg.d_out else jnp.zeros(cfg.d_in)


def lengths(params: Params, cfg: Dictionary) -> Float[Array, " F"]:
    """How long each feature's row of the decoder is: the sum over its pieces."""
    return lengths_by_piece(params, cfg).sum(1)


def lengths_by_piece(params: Params, cfg: Dictionary) -> Float[Array, "F I"]:
    """How long each feature's row of the decoder is in each piece."""
    return norms(params["W_dec"].reshape(cfg.n_features * cfg.pieces, -1)).reshape(-1, cfg.pieces)
