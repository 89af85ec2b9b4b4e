"""The two circuits of an attention head (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits").

    QK = W_Q W_Kᵀ · scale       where a head looks: x_q QK x_kᵀ is the score of key row x_k for query row x_q
    OV = W_V W_O                what it says: x_k OV is what a key row x_k adds where it is looked at

Over tokens they are W_E QK W_Eᵀ and W_E OV W_U [V V]: the score between two tokens, and how a token that is looked at
changes each logit. Products stay factored, of rank E: 2 V E numbers per head, so ask for few heads where V is large. Their
eigenvalues are those of W_O (W_U W_E) W_V and W_Kᵀ (W_Eᵀ W_E) W_Q [E E], for which nothing larger than [D D] is made. Grouped
keys and values are those of a head's group.

They hold for rows after ln1 whose weights are folded (`models.processing.fold_norms`), up to the norm's divisor. Biases, caps
and positions are not in them: rotary positions turn QK by the distance, and normalised queries and keys (model.qk_norm) rescale
it by row. The norms of a "sandwich" model and an "mlm" head are not in OV either.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.anatomy.factored import Factored, eigenvalues, multiply, positive_share
from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig

Heads = Int[Array, " N"] | None


def qk_matrix(params: Params, cfg: TransformerConfig) -> Factored:
    """W_Q W_Kᵀ times the scale of scores; [L H D D]."""
    attn = params["blocks"]["attn"]
    scale = cfg.attention_scale or cfg.d_head**-0.5
    return Factored(attn["W_Q"] * scale, by_head(attn["W_K"], cfg).mT)


def ov_matrix(params: Params, cfg: TransformerConfig) -> Factored:
    """W_V W_O; [L H D D]."""
    attn = params["blocks"]["attn"]
    return Factored(by_head(attn["W_V"], cfg), attn["W_O"])


def qk_circuit(params: Params, cfg: TransformerConfig, heads: Heads = None) -> Factored:
    """W_E W_Q W_Kᵀ W_Eᵀ times the scale of scores; [L H V V], or [N V V] of some `heads`; query token by key token."""
    tokens = embeddings(params, cfg)
    return tokens @ chosen(qk_matrix(params, cfg), heads) @ tokens.T


def ov_circuit(params: Params, cfg: TransformerConfig, heads: Heads = None) -> Factored:
    """W_E W_V W_O W_U; [L H V V], or [N V V] of some `heads`; token looked at by token made likely.

    Raises:
      InputError: a model without logits.
    """
    return embeddings(params, cfg) @ chosen(ov_matrix(params, cfg), heads) @ unembedding(params, cfg)


def copying_score(params: Params, cfg: TransformerConfig) -> Float[Array, "L H"]:
    """Σ Re λ / Σ |λ| over the eigenvalues of the OV circuit: 1 for a head that makes likely what it looks at.

    Raises:
      InputError: a model without logits.
    """
    return positive_share(
        eigenvalues(ov_matrix(params, cfg) @ multiply(unembedding(params, cfg), embeddings(params, cfg)))
    )


def matching_score(params: Params, cfg: TransformerConfig) -> Float[Array, "L H"]:
    """Σ Re λ / Σ |λ| over the eigenvalues of the QK circuit: 1 for a head that looks at copies of its token."""
    tokens = embeddings(params, cfg)
    return positive_share(eigenvalues(qk_matrix(params, cfg) @ multiply(tokens.T, tokens)))


def embeddings(params: Params, cfg: TransformerConfig) -> Float[Array, "V D"]:
    """The rows that tokens put into the stream: W_E times the embedding's scale."""
    return params["embed"]["W_E"] * cfg.embed_scale


def unembedding(params: Params, cfg: TransformerConfig) -> Float[Array, "D V"]:
    """W_U.

    Raises:
      InputError: a model without logits.
    """
    if cfg.head == "none":
        raise InputError(
            "this model has no logits (model.head = 'none'), so no OV circuit over tokens: use `ov_matrix`"
        )
    return params["embed"]["W_E"].T if cfg.tied else params["unembed"]["W_U"]


def chosen(matrix: Factored, heads: Heads) -> Factored:
    """The matrices [N . .] of some heads, l H + h each, out of [L H . .]; all of them for None."""
    if heads is None:
        return matrix
    return Factored(*(x.reshape(-1, *x.shape[2:])[heads] for x in (matrix.left, matrix.right)))


def by_head(weight: Float[Array, "L G D E"], cfg: TransformerConfig) -> Float[Array, "L H D E"]:
    """Key or value weights, one per head."""
    return jnp.repeat(weight, cfg.n_heads // cfg.n_groups, axis=1)
