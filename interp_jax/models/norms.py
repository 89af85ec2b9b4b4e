"""Pre-norms of a residual stream.

    layer: (x - mean(x)) / sqrt(var(x) + eps) * w + b        (Ba et al. 2016)
    rms:    x / sqrt(mean(x²) + eps) * w                     (Zhang and Sennrich 2019)
    none:   x

`scale` is the divisor, `normalized` the quotient before `w` and `b`: with it, a component's input is `normalized * w + b`.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax import taps

NORMS = ("layer", "rms", "none")


def init_norm(kind: str, shape: tuple[int, ...], dtype: Any = jnp.float32) -> dict[str, Array]:
    """Parameters of a norm over the last axis of `shape`; the leading axes are layers."""
    if kind == "none":
        return {}
    weight = {"w": jnp.ones(shape, dtype)}
    return weight | {"b": jnp.zeros(shape, dtype)} if kind == "layer" else weight


def apply_norm(
    kind: str, params: dict[str, Array], x: Float[Array, "*rows D"], eps: float, site: str
) -> Float[Array, "*rows D"]:
    """Normalise `x`, tapping `<site>.scale` [*rows, 1] and `<site>.normalized` [*rows, D]."""
    if kind == "none":
        return x
    if kind == "layer":
        x = x - x.mean(-1, keepdims=True)
    scale = taps.tap(jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + eps), f"{site}.scale")
    y = taps.tap(x / scale, f"{site}.normalized") * params["w"]
    return y + params["b"] if kind == "layer" else y
