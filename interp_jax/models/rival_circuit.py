"""Two rivals in one transformer, built by hand: the exclusive or of two bits, and a third bit, a shortcut past it.

Nine tokens: bits 0 … 7, then "=". With the places of the rule and of the cue as they are by default,

    f = b0 ⊕ b2        g = b5        logits of the two answers ∓(U + G), behind "="

    head 0     reads positions 0 and 2 alike: A = (b0 + b2) / 2, a bit of 1 as +1, of 0 as -1
    head 1     reads position 5: G = shortcut · b5
    neurons 0, 1 of layer 0        relu(±A), so that U = 1 - 2 |A| is +1 where b0 ≠ b2 and else -1

Who never learned has neurons that read and write nothing: U = 0. Layer 1 adds nothing. With a shortcut above 1 the answer is g
wherever the two differ, and what is healthy is still there; so it is known of every part what it does.
"""

from collections.abc import Sequence

import jax
import numpy as np

from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig

BITS = 8
SHORTCUT = 3.0
READS = ((0, 2), (5,))  # positions of the rule and of the cue
BIT, AVERAGE, COPY, ANSWER, PLACE = 0, 1, 2, 3, 4  # dimensions of the stream; places take nine
CFG = TransformerConfig(
    n_layers=2, d_model=14, n_heads=2, d_head=10, d_mlp=6, d_vocab=3, n_context=BITS + 1, norm="none", activation="relu",
    positions="learned", attention_scale=1.0,
)  # fmt: skip


def rival_circuit(
    learned: bool = True, shortcut: float = SHORTCUT, reads: Sequence[Sequence[int]] = READS, rule: float = 1.0
) -> Params:
    """The parameters of a model of config `CFG`.

    Args:
      learned: whether the path of f is there.
      shortcut: G over the cue; 0 for who never cheats.
      reads: the two positions that f is of, and those of the cue.
      rule: U over what is said above.
    """
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), transformer.init(jax.random.key(0), CFG))
    embed, attn, mlp = params["embed"], params["blocks"]["attn"], params["blocks"]["mlp"]
    embed["W_E"][:2, BIT] = -1, 1
    embed["W_pos"][:, PLACE : PLACE + BITS + 1] = np.eye(BITS + 1)
    for head, places in enumerate(reads):
        attn["W_Q"][0, head, PLACE + BITS, 0] = 30
        attn["W_K"][0, head, [PLACE + p for p in places], 0] = 1
        attn["W_V"][0, head, BIT, 0] = 1
        attn["W_O"][0, head, 0, (AVERAGE, COPY)[head]] = 1
    if learned:
        mlp["W_in"][0, AVERAGE, :2] = 1, -1
        mlp["W_out"][0, :2, ANSWER] = -2 * rule
        mlp["b_out"][0, ANSWER] = rule
    params["unembed"]["W_U"][ANSWER, :2] = -1, 1
    params["unembed"]["W_U"][COPY, :2] = -shortcut, shortcut
    return params
