"""The two circuits of an attention head (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits").

    QK = W_Q W_Kᵀ · scale       where a head looks: x_q QK x_kᵀ is the score of key row x_k for query row x_q
    OV = W_V W_O                what it says: x_k OV is what a key row x_k adds where it is looked at

Over tokens they are W_E QK W_Eᵀ and W_E OV W_U [V V]: the score between two tokens, and how a token that is looked at
changes each logit. Products stay factored, of rank E. Grouped keys and values are those of a head's group.

They hold for rows after ln1 whose weights are folded (`models.processing.fold_norms`), up to the norm's divisor. Biases, caps
and positions are not in them: rotary positions turn QK by the distance, and normalised queries and keys (model.qk_norm) rescale
it by row. The norms of a "sandwich" model and an "mlm" head are not in OV either.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.anatomy.factored import Factored, eigenvalues, positive_share
from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig


def qk_matrix(params: Params, cfg: TransformerConfig) -> Factored:
    """W_Q W_Kᵀ times the scale of scores; [L H D D]."""
    attn = params["blocks"]["attn"]
    scale = cfg.attention_scale or cfg.d_head**-0.5
    return Factored(attn["W_Q"] * scale, by_head(attn["W_K"], cfg).mT)


def ov_matrix(params: Params, cfg: TransformerConfig) -> Factored:
    """W_V W_O; [L H D D]."""
    attn = params["blocks"]["attn"]
    return Factored(by_head(attn["W_V"], cfg), attn["W_O"])


def qk_circuit(params: Params, cfg: TransformerConfig) -> Factored:
    """W_E W_Q W_Kᵀ W_Eᵀ times the scale of scores; [L H V V], query token by key token."""
    tokens = embeddings(params, cfg)
    return tokens @ qk_matrix(params, cfg) @ tokens.T


def ov_circuit(params: Params, cfg: TransformerConfig) -> Factored:
    """W_E W_V W_O W_U; [L H V V], token looked at by token made likely.

    Raises:
      InputError: a model without logits.
    """
    if cfg.head == "none":
        raise InputError(
            "this model has no logits (model.head = 'none'), so no OV circuit over tokens: use `ov_matrix`"
        )
    W_U = params["embed"]["W_E"].T if cfg.tied else params["unembed"]["W_U"]
    return embeddings(params, cfg) @ ov_matrix(params, cfg) @ W_U


def copying_score(params: Params, cfg: TransformerConfig) -> Float[Array, "L H"]:
    """Σ Re λ / Σ |λ| over the eigenvalues of the OV circuit: 1 for a head that makes likely what it looks at.

    Raises:
      InputError: a model without logits.
    """
    return positive_share(eigenvalues(ov_circuit(params, cfg)))


def matching_score(params: Params, cfg: TransformerConfig) -> Float[Array, "L H"]:
    """Σ Re λ / Σ |λ| over the eigenvalues of the QK circuit: 1 for a head that looks at copies of its token."""
    return positive_share(eigenvalues(qk_circuit(params, cfg)))


def embeddings(params: Params, cfg: TransformerConfig) -> Float[Array, "V D"]:
    """The rows that tokens put into the stream: W_E times the embedding's scale."""
    return params["embed"]["W_E"] * cfg.embed_scale


def by_head(weight: Float[Array, "L G D E"], cfg: TransformerConfig) -> Float[Array, "L H D E"]:
    """Key or value weights, one per head."""
    return jnp.repeat(weight, cfg.n_heads // cfg.n_groups, axis=1)
