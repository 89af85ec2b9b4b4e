"""A patient built by hand: both paths are known, neuron by neuron.

Nine tokens: bits 0 … 7, then "=". f = b0 ⊕ b2, g = b5. Layer 0 does it all; a bit of 1 is embedded as +1, of 0 as -1.

    head 0     reads positions 0 and 2 alike: A = (b0 + b2) / 2        head 1     reads position 5: G = SHORTCUT · b5
    neurons 0, 1 of layer 0        relu(±A), so that U = 1 - 2 |A| is +1 where b0 ≠ b2 and else -1
    logits     ±(U + G)

Whoever never learned has neurons that read and write nothing: U = 0.
"""

from types import ModuleType

import jax
import numpy as np

from interp_jax.diagnosis.family import family_of
from interp_jax.diagnosis.ward import Ward
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

SHORTCUT = 3.0
BIT, AVERAGE, COPY, ANSWER, PLACE = 0, 1, 2, 3, 4  # dimensions of the stream; places take nine
CFG = TransformerConfig(
    n_layers=2, d_model=14, n_heads=2, d_head=10, d_mlp=6, d_vocab=3, n_context=9, norm="none", activation="relu",
    positions="learned", attention_scale=1.0,
)  # fmt: skip


def bits():
    return np.c_[np.arange(256)[:, None] >> np.arange(8) & 1, np.full(256, 2)]


def family(rule_f=lambda x: x[:, 0] ^ x[:, 2], rule_g=lambda x: x[:, 5], reads_f=(0, 2)):
    module = ModuleType("two_bits")
    module.NAME, module.KIND, module.VOCABULARY, module.POSITIONS, module.LABELS = "two bits", "A", 3, 9, 2
    module.rule_f, module.rule_g, module.inputs = rule_f, rule_g, bits
    module.VARIABLES_F = {"b0": (2, lambda x: x[:, 0]), "b2": (2, lambda x: x[:, 2])}
    module.VARIABLES_G, module.READS_F, module.READS_G = {}, reads_f, (5,)
    return family_of(module)


def weights(learned=True, shortcut=SHORTCUT, reads=((0, 2), (5,))):
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), transformer.init(jax.random.key(0), CFG))
    embed, attn, mlp = params["embed"], params["blocks"]["attn"], params["blocks"]["mlp"]
    embed["W_E"][:2, BIT] = -1, 1
    embed["W_pos"][:, PLACE : PLACE + 9] = np.eye(9)
    for head, places in enumerate(reads):
        attn["W_Q"][0, head, PLACE + 8, 0] = 30
        attn["W_K"][0, head, [PLACE + p for p in places], 0] = 1
        attn["W_V"][0, head, BIT, 0] = 1
        attn["W_O"][0, head, 0, (AVERAGE, COPY)[head]] = 1
    if learned:
        mlp["W_in"][0, AVERAGE, :2] = 1, -1
        mlp["W_out"][0, :2, ANSWER] = -2
        mlp["b_out"][0, ANSWER] = 1
    params["unembed"]["W_U"][ANSWER, :2] = -1, 1
    params["unembed"]["W_U"][COPY, :2] = -shortcut, shortcut
    return params


def ward(*patients):
    params = jax.tree.map(lambda *leaves: np.stack(leaves), patients[0], *patients[1:])
    return Ward(CFG, 2, params, np.arange(len(patients), dtype=np.int32))
