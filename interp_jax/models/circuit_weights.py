"""From what each head looks for and copies to the weights of an attention-only transformer without norms and biases.

A head is four matrices, which read and write coordinates of the stream:

    score(q, k) = sharpness · (x_q query) · (x_k key)        adds (x_k value) targetᵀ to the stream

Columns of `query` and `key` answer each other, and so do those of `value` and `target`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from interp_jax.models.transformer import Params, TransformerConfig


class Head(NamedTuple):
    """What a head reads and writes."""

    query: Float[np.ndarray, "D N"]
    key: Float[np.ndarray, "D N"]
    value: Float[np.ndarray, "D M"]
    target: Float[np.ndarray, "D M"]


def stream_blocks(*sizes: int) -> list[Float[np.ndarray, "D _"]]:
    """For blocks of coordinates, side by side, the matrix [D, size] that reads each; its transpose writes it."""
    return np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)


def circuit_weights(
    layers: Sequence[Sequence[Head]],
    W_E: Float[np.ndarray, "V D"],
    W_pos: Float[np.ndarray, "P D"],
    W_U: Float[np.ndarray, "D V"],
    sharpness: float,
) -> tuple[Params, TransformerConfig]:
    """Parameters, in JAX's default floating type, and config; every layer has as many heads."""
    shape = (len(layers), len(layers[0]))
    width = max(part.shape[1] for heads in layers for head in heads for part in head)

    def stacked(name: str) -> Float[np.ndarray, "L H D E"]:
        parts = [getattr(head, name) for heads in layers for head in heads]
        padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
        return np.stack(padded).reshape(*shape, -1, width)

    attn = {
        "W_Q": sharpness * stacked("query"),
        "W_K": stacked("key"),
        "W_V": stacked("value"),
        "W_O": stacked("target").swapaxes(2, 3),
    }
    cfg = TransformerConfig(
        n_layers=shape[0], n_heads=shape[1], d_head=width, d_model=W_E.shape[1], d_vocab=W_E.shape[0],
        n_context=W_pos.shape[0], norm="none", positions="learned", biases="none", attention_scale=1.0,
    )  # fmt: skip
    embed = {"W_E": W_E, "W_pos": W_pos}
    params = {"embed": embed, "blocks": {"ln1": {}, "attn": attn}, "ln_final": {}, "unembed": {"W_U": W_U}}
    return jax.tree.map(jnp.asarray, params), cfg
