"""A norm whose divisor is held at its recorded value is linear, so that the parts of a sum go through it one by one.

    norm(Σ x_i) = Σ frozen(x_i) + b        frozen(x) = (x - mean(x)) (offset + w) / scale        no mean under RMS norm

`scale` is the site `<norm>.scale`, the divisor of the whole sum. `pull_back` is the transpose of `apply_frozen`:
frozen(x) · r = x · pull_back(r).
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.models.norms import Norm

Weights = Mapping[str, Array]
Scale = Float[Array, "..."] | float


def apply_frozen(rule: Norm, norm: Weights, scale: Scale, x: Float[Array, "*rows D"]) -> Float[Array, "..."]:
    """What a part `x` of a stream is after the norm, without the norm's shift; has the axes of `scale` too."""
    if rule.kind == "none":
        return x
    x = x - x.mean(-1, keepdims=True) if rule.kind == "layer" else x
    return x * ((norm["w"] + rule.offset) / scale)


def pull_back(rule: Norm, norm: Weights, scale: Scale, readout: Float[Array, "*rows D"]) -> Float[Array, "..."]:
    """The direction before the norm that says what `readout` says after it; has the axes of `scale` too."""
    if rule.kind == "none":
        return readout
    readout = readout * ((norm["w"] + rule.offset) / scale)
    return readout - readout.mean(-1, keepdims=True) if rule.kind == "layer" else readout


def shift(norm: Weights) -> Array:
    """b, the same for every row; 0 where the norm has none."""
    return norm["b"] if "b" in norm else jnp.zeros(())
