"""Random weights in the published format: a tensor is a function of its name, its shape and a seed.

Scales are such that everything matters: attention is far from uniform, biases and norms are far from their first values.
"""

import zlib

import numpy as np

SPREAD = 0.3  # of biases, and of a norm's weights around 1, which Gemma publishes as differences from 1
GAIN = 1.5  # of maps, against a variance of 1/fan_in


def random_tensor(name: str, shape: tuple[int, ...], seed: int, published_as_difference: bool) -> np.ndarray:
    """A float32 tensor."""
    draw = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if len(shape) == 1:
        around = 1.0 if name.endswith(".weight") and not published_as_difference else 0.0
        return (around + SPREAD * draw).astype(np.float32)
    scale = 1.0 if is_table(name) else GAIN * min(shape) ** -0.5
    return (scale * draw).astype(np.float32)


def is_table(name: str) -> bool:
    """Whether rows of a tensor are looked up."""
    return any(part in name for part in ("wte", "wpe", "embed_in", "embed_tokens", "_embeddings"))
