"""JumpReLU: a learned threshold for each feature (Rajamanoharan et al. 2024b, arXiv:2407.14435).

    z = (x - b_dec) W_encᵀ + b_enc        f = z H(z - θ)        θ = exp(log_threshold) > 0, in float32
    loss = ‖x - x̂‖² + penalty

    penalty "step"      λ Σ H(z - θ)                                          the number of features itself
            "tanh"      λ Σ tanh(c f ‖W_dec‖)                                 (Anthropic, January 2025)
            "target"    λ (L0 / target - 1)², L0 the mean of Σ H(z - θ)       (arXiv:2407.14435, appendix)

A step has no derivative to follow. It is estimated with the kernel K of a rectangle of width ε around the threshold:

    ∂f/∂θ = -(θ/ε) K((z - θ)/ε)        ∂H/∂θ = -(1/ε) K((z - θ)/ε)        K(u) = [|u| < ½]        ∂f/∂z = H(z - θ)
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import norms, pre_activations
from interp_jax.dictionaries.judged import Batch, Judged, Situation, count, in_use, penalty_weight, squared_error
from interp_jax.dictionaries.kinds import standard
from interp_jax.dictionaries.parameters import Params, centre, initial

UNIT_ROWS = False

decode = standard.decode


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """Rows of length `first_norm`, thresholds of `first_threshold`."""
    threshold = jnp.full(cfg.n_features, jnp.log(jnp.asarray(cfg.first_threshold, jnp.float32)), jnp.float32)
    return initial(key, cfg, cfg.first_norm) | {"log_threshold": threshold}


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features."""
    z, threshold = gates(params, x, cfg)
    return jump(z, threshold, jnp.asarray(cfg.bandwidth, z.dtype))


def gates(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> tuple[Float[Array, "B F"], Float[Array, " F"]]:
    """z, and the thresholds; features not in use never reach theirs."""
    z = pre_activations(x, centre(params, cfg), params["W_enc"], params["b_enc"])
    return jnp.where(in_use(cfg), z, -jnp.inf), jnp.exp(params["log_threshold"])


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """Error and penalty."""
    z, threshold = gates(params, batch.x, cfg)
    bandwidth = jnp.asarray(cfg.bandwidth, z.dtype)
    f = jump(z, threshold, bandwidth)
    error = squared_error(batch.y, decode(params, f, cfg))
    if cfg.penalty == "tanh":
        penalty = jnp.tanh(cfg.tanh_scale * f * norms(params["W_dec"])).sum(-1).mean()
    else:
        l0 = step(z, threshold, bandwidth).sum(-1).mean()
        penalty = l0 if cfg.penalty == "step" else (l0 / cfg.target - 1) ** 2
    total = error + penalty_weight(cfg, situation) * penalty
    return Judged(total, {"error": error, "penalty": penalty}, count(f > 0), {})


@jax.custom_vjp
def jump(z: Float[Array, "B F"], threshold: Float[Array, " F"], bandwidth: Float[Array, ""]) -> Float[Array, "B F"]:
    """Z where it exceeds the threshold, else 0."""
    return jnp.where(z > threshold, z, 0.0)


@jax.custom_vjp
def step(z: Float[Array, "B F"], threshold: Float[Array, " F"], bandwidth: Float[Array, ""]) -> Float[Array, "B F"]:
    """1 where z exceeds the threshold, else 0."""
    return (z > threshold).astype(z.dtype)


def near(z: Array, threshold: Array, bandwidth: Array) -> Array:
    """K((z - θ)/ε) / ε."""
    return (jnp.abs(z - threshold) < bandwidth / 2) / bandwidth


def _forward(function: Any) -> Any:
    return lambda z, threshold, bandwidth: (function(z, threshold, bandwidth), (z, threshold, bandwidth))


def _jump_backward(kept: Any, g: Array) -> tuple[Array, Array, Array]:
    z, threshold, bandwidth = kept
    d_threshold = -(g * threshold * near(z, threshold, bandwidth)).sum(0)
    return jnp.where(z > threshold, g, 0.0), d_threshold, jnp.zeros_like(bandwidth)


def _step_backward(kept: Any, g: Array) -> tuple[Array, Array, Array]:
    z, threshold, bandwidth = kept
    return jnp.zeros_like(z), -(g * near(z, threshold, bandwidth)).sum(0), jnp.zeros_like(bandwidth)


jump.defvjp(_forward(jump), _jump_backward)
step.defvjp(_forward(step), _step_backward)
