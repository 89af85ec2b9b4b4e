"""Indirect object identification in miniature, built by hand: of two names, the one that is not said twice comes next.

    BEGIN  Ann  Ben  …  Ann  END   →   Ben

An attention-only transformer without norms, in four layers, as each head reads what the one before it writes:

    layer 0, head 0   duplicate     a name looks at its earlier copy, and copies it into "duplicate"
    layer 1, head 0   inhibition    END looks at the duplicate, and copies it into "repeated"
    layer 2, head 0   mover         END looks at names other than the repeated one, and copies them into "said"
    layer 3, head 0   backup        the same, but not at names already said
    head 1 of each    decoy         looks at copies of a name; at the position before; at what the mover sees; at the
                                    duplicate. Copies the name there into "scratch", which nothing reads.

A head that finds nothing looks at BEGIN, where there is nothing to copy. W_U reads "said". The stream holds one-hot blocks,
side by side: token (names, BEGIN, FILLER, END), position, and a name each for duplicate, repeated, said and scratch. A match
scores `sharpness`, BEGIN half of it; as it grows, patterns become exact. The roles are those of Wang et al. 2022,
"Interpretability in the Wild". The backup is silent while the mover speaks and takes over where it is ablated: so noising the
mover shows little or nothing of it, and denoising it shows it whole. What patching gives is in `name_mover_truth.py`.
"""

import numpy as np

from interp_jax.models.circuit_truth import Truth
from interp_jax.models.circuit_weights import Head, circuit_weights, stream_blocks
from interp_jax.models.name_mover_truth import name_mover_truth
from interp_jax.models.transformer import Params, TransformerConfig


def name_mover_circuit(
    n_names: int, n_context: int, sharpness: float = 50.0, backup: bool = True
) -> tuple[Params, TransformerConfig, Truth]:
    """The parameters, the config, and what patching must find; without the backup there are three layers.

    Tokens are the names 0 … n_names - 1, then BEGIN, FILLER and END: prompts come from `name_mover_prompts`.
    """
    N = n_names
    token, position, duplicate, repeated, said, scratch = stream_blocks(N + 3, n_context, N, N, N, N)
    names, begin, end = token[:, :N], token[:, N : N + 1], token[:, N + 2 :]
    anything = token.sum(1, keepdims=True)

    def looks(query: np.ndarray, key: np.ndarray, value: np.ndarray = names, target: np.ndarray = scratch) -> Head:
        """A head that looks at BEGIN where nothing matches."""
        return Head(np.hstack([query, anything]), np.hstack([key, begin / 2]), value, target)

    others = repeated @ (1 - np.eye(N))
    elsewhere = np.hstack([names, -position]), np.hstack([names, position])  # a copy that is not the token itself
    to_duplicate = end, duplicate.sum(1, keepdims=True)
    to_previous = position, position @ np.eye(n_context, k=1)
    layers = [
        [looks(*elsewhere, names, duplicate), looks(names, names)],
        [looks(*to_duplicate, duplicate, repeated), looks(*to_previous)],
        [looks(others, names, names, said), looks(others, names)],
        [looks(others - 2 * said, names, names, said), looks(*to_duplicate, duplicate)],
    ]
    layers = layers if backup else layers[:3]
    W_U = sharpness * np.pad(said, ((0, 0), (0, 3)))
    params, cfg = circuit_weights(layers, token.T, position.T, W_U, sharpness)
    return params, cfg, name_mover_truth(backup)
