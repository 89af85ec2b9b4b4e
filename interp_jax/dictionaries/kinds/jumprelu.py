"""JumpReLU: a learned threshold for each feature (Rajamanoharan et al. 2024b, arXiv:2407.14435).

    z = (x - b_dec) W_encᵀ + b_enc        f = z H(z - θ)        θ = exp(log_threshold) > 0, or learned itself, in float32
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
from interp_jax.dictionaries.encoders import pre_activations
from interp_jax.dictionaries.judged import Batch, Judged, Situation, count, error_of, in_use, penalty_weight
from interp_jax.dictionaries.kinds import standard
from interp_jax.dictionaries.parameters import Params, centre, initial, lengths

UNIT_ROWS = False

decode = standard.decode


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """Rows of length `first_norm`, thresholds of `first_threshold`."""
    return initial(key, cfg, cfg.first_norm) | first_thresholds(cfg)


def first_thresholds(cfg: Dictionary) -> Params:
    """Thresholds as they are learned."""
    threshold = jnp.full(cfg.n_features, jnp.asarray(cfg.first_threshold, jnp.float32))
    return {"log_threshold": jnp.log(threshold)} if cfg.thresholds == "log" else {"threshold": threshold}


def thresholds(params: Params, cfg: Dictionary) -> Float[Array, " F"]:
    """Thresholds themselves."""
    return jnp.exp(params["log_threshold"]) if cfg.thresholds == "log" else params["threshold"]


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features."""
    z, threshold = gates(params, x, cfg)
    return jump(z, threshold, jnp.asarray(cfg.bandwidth, z.dtype))


def gates(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> tuple[Float[Array, "B F"], Float[Array, " F"]]:
    """z, and the thresholds; features not in use never reach theirs."""
    z = pre_activations(x, centre(params, cfg), params["W_enc"], params["b_enc"])
    return jnp.where(in_use(cfg), z, -jnp.inf), thresholds(params, cfg)


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """Error and penalty."""
    z, threshold = gates(params, batch.x, cfg)
    f = jump(z, threshold, jnp.asarray(cfg.bandwidth, z.dtype))
    penalty = penalised(z, f, threshold, lengths(params, cfg), cfg)
    return judge(error_of(batch, decode(params, f, cfg)), penalty, f, cfg, situation)


def judge(error: Array, penalty: Array, f: Float[Array, "B F"], cfg: Dictionary, situation: Situation) -> Judged:
    """The loss of an error and a penalty."""
    total = error + penalty_weight(cfg, situation) * penalty
    return Judged(total, {"error": error, "penalty": penalty}, count(f > 0), {})


def penalised(
    z: Float[Array, "B F"],
    f: Float[Array, "B F"],
    threshold: Float[Array, " F"],
    lengths: Float[Array, " F"],
    cfg: Dictionary,
) -> Float[Array, ""]:
    """The penalty without its weight; `lengths` are those of the decoder's rows."""
    if cfg.penalty == "tanh":
        return jnp.tanh(cfg.tanh_scale * f * lengths).sum(-1).mean()
    l0 = step(z, threshold, jnp.asarray(cfg.bandwidth, z.dtype)).sum(-1).mean()
    return l0 if cfg.penalty == "step" else (l0 / cfg.target - 1) ** 2


@jax.custom_vjp
def jump(z: Float[Array, "B F"], threshold: Float[Array, " F"], bandwidth: Float[Array, ""]) -> Float[Array, "B F"]:
    """Z where it exceeds the threshold, else 0."""
    return jnp.where(z > threshold, z, 0.0)


@jax.custom_vjp
def step(z: Float[Array, "B F"], threshold: Float[Array, " F"], bandwidth: Float[Array, ""]) -> Float[Array, "B F"]:
    """1 where z exceeds the threshold, else 0."""
    return (z > threshold).astype(z.dtype)


def near(z: Array, threshold: Array, bandwidth: Any) -> Array:
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
