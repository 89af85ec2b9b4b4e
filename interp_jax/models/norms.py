"""Norms of a residual stream.

    layer: (x - mean(x)) / sqrt(var(x) + eps) * (offset + w) + b        (Ba et al. 2016)
    rms:    x / sqrt(mean(x²) + eps) * (offset + w)                     (Zhang and Sennrich 2019)
    none:   x

`scale` is the divisor, `normalized` the quotient before `w` and `b`: with it, a component's input is
`normalized * (offset + w) + b`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax import taps

NORMS = ("layer", "rms", "none")


class Norm(NamedTuple):
    """How a model normalises; the fields are those of `TransformerConfig`."""

    kind: str
    eps: float
    offset: float = 0.0
    dtype: str = ""
    cast_first: bool = False


def init_norm(rule: Norm, shape: tuple[int, ...], dtype: Any = jnp.float32) -> dict[str, Array]:
    """Parameters of a norm over the last axis of `shape` that changes nothing; the leading axes are layers."""
    if rule.kind == "none":
        return {}
    weight = {"w": jnp.full(shape, 1.0 - rule.offset, dtype)}
    return weight | {"b": jnp.zeros(shape, dtype)} if rule.kind == "layer" else weight


def apply_norm(
    rule: Norm, params: dict[str, Array], x: Float[Array, "*rows D"], site: str = ""
) -> Float[Array, "*rows D"]:
    """Normalise `x`, tapping `<site>.scale` [*rows, 1] and `<site>.normalized` [*rows, D] where a site is named."""
    if rule.kind == "none":
        return x
    dtype = x.dtype
    x = x.astype(at_least(dtype, rule.dtype))
    if rule.kind == "layer":
        x = x - x.mean(-1, keepdims=True)
    scale = jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + rule.eps)
    scale = taps.tap(scale, f"{site}.scale") if site else scale
    y = (x / scale).astype(dtype if rule.cast_first else x.dtype)
    y = taps.tap(y, f"{site}.normalized") if site else y
    weight = params["w"].astype(y.dtype)
    y = y * (weight + rule.offset if rule.offset else weight)
    return (y + params["b"].astype(y.dtype) if rule.kind == "layer" else y).astype(dtype)


def at_least(dtype: Any, least: str) -> Any:
    """The wider of two float dtypes; `least` may be ""."""
    return jnp.promote_types(dtype, least) if least else dtype
