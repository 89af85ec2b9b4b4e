"""An induction circuit built by hand: a two-layer attention-only transformer whose every head is known exactly.

The stream holds four one-hot blocks, side by side: token (V), previous token (V), position (P), next token (V).

    layer 0, head 0   looks at the previous position and copies its token into "previous token"
    layer 0, head 1   looks at every visible copy of its token, itself included, and writes nothing
    layer 1, head 0   looks where "previous token" is its token, and copies the token there into "next token"
    layer 1, head 1   looks everywhere alike and writes nothing

W_U reads "next token". At position 0 nothing is before: there the first head sees only itself, and the token counts as its
own previous one, so that a later copy of it looks half at position 0 and half at position 1. As `sharpness` (the score of a
match) grows, patterns become exact; the model has no norm, so that nothing rescales the stream. The two layers compose as in
Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits": K-composition of layer 1 with layer 0.
"""

import jax.numpy as jnp
import numpy as np

from interp_jax.models.transformer import Params, TransformerConfig


def induction_circuit(d_vocab: int, n_context: int, sharpness: float = 50.0) -> tuple[Params, TransformerConfig]:
    """The parameters and the config of the circuit."""
    V, P, E = d_vocab, n_context, max(d_vocab, n_context)
    token, previous, position, following = 0, V, 2 * V, 2 * V + P
    D = 3 * V + P
    cfg = TransformerConfig(
        d_model=D, n_heads=2, d_head=E, d_vocab=V, n_context=P, norm="none", positions="learned", biases="none"
    )
    gain = sharpness * E**0.5
    W_Q, W_K, W_V = (np.zeros((2, 2, D, E), np.float32) for _ in range(3))
    W_O = np.zeros((2, 2, E, D), np.float32)
    W_Q[0, 0, position : position + P, :P] = gain * np.eye(P)
    W_K[0, 0, position : position + P, :P] = np.eye(P, k=1)
    W_V[0, 0, token : token + V, :V] = np.eye(V)
    W_O[0, 0, :V, previous : previous + V] = np.eye(V)
    W_Q[0, 1, token : token + V, :V] = gain * np.eye(V)
    W_K[0, 1, token : token + V, :V] = np.eye(V)
    W_Q[1, 0, token : token + V, :V] = gain * np.eye(V)
    W_K[1, 0, previous : previous + V, :V] = np.eye(V)
    W_V[1, 0, token : token + V, :V] = np.eye(V)
    W_O[1, 0, :V, following : following + V] = np.eye(V)
    embed = {"W_E": np.eye(V, D, k=token), "W_pos": np.eye(P, D, k=position)}
    unembed = sharpness * np.eye(D, V, k=-following)
    attn = {"W_Q": W_Q, "W_K": W_K, "W_V": W_V, "W_O": W_O}
    params = {"embed": embed, "blocks": {"ln1": {}, "attn": attn}, "ln_final": {}, "unembed": {"W_U": unembed}}
    return _as_float32(params), cfg


def _as_float32(tree: Params) -> Params:
    return {k: _as_float32(v) if isinstance(v, dict) else jnp.asarray(v, jnp.float32) for k, v in tree.items()}
