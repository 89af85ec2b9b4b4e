"""Edits of weights: an MLP's second matrix as a memory of keys and values, changed so that some keys mean something else.

    y = k W + b,  k [M] what the MLP's neurons are at a position, W [M D]         C = E k kᵀ over text, not about the mean

    rank_one     Δ = C⁻¹k (v - kW - b)ᵀ / (k·C⁻¹k)                 so that k means v, exactly                    ROME
    exact        Δ = C⁻¹Kᵀ (K C⁻¹ Kᵀ)⁻¹ R                          all N keys, exactly; R = V - KW - b           EMMET
    batch        Δ = (λC + KᵀK)⁻¹ Kᵀ R                             argmin ‖KΔ - R‖² + λ tr ΔᵀCΔ                  MEMIT

(Meng et al. 2022; Gupta et al. 2024; Meng et al. 2023.) `rank_one` and `exact` are the least change, as text sees it
(tr ΔᵀCΔ = E ‖kΔ‖²), that makes the keys mean the values; a key that is orthogonal to them in C⁻¹ keeps its own. `batch` trades
the two. C comes from `activations/moments` of `blocks.mlp.post`; all is NumPy in float64, on the host.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.activations.moments import Moments
from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.taps import Edit

KEYS, VALUES = "blocks.mlp.post", "blocks.mlp.out"
Model = Callable[[Any, Int[Array, "B P"]], Array]


class Associations(NamedTuple):
    """Keys, and what the MLP says to them: at one position of each of N prompts."""

    keys: Float[np.ndarray, "N M"]
    values: Float[np.ndarray, "N D"]


def second_moment(moments: Moments, damping: float = 0.0) -> Float[np.ndarray, "M M"]:
    """C of moments of keys, with `damping` times its mean diagonal added, where neurons are silent on all text."""
    C = moments.covariance + np.multiply.outer(moments.mean, moments.mean)
    return C + damping * np.trace(C) / len(C) * np.eye(len(C))


def rank_one(
    C: Float[np.ndarray, "M M"], key: Float[np.ndarray, " M"], missing: Float[np.ndarray, " D"]
) -> Float[np.ndarray, "M D"]:
    """Δ of one key; `missing` is what its value lacks, v - kW - b."""
    return exact(C, np.asarray(key)[None], np.asarray(missing)[None])


def exact(
    C: Float[np.ndarray, "M M"], keys: Float[np.ndarray, "N M"], missing: Float[np.ndarray, "N D"]
) -> Float[np.ndarray, "M D"]:
    """Δ of N keys, each of which then means its value.

    Raises:
      InputError: C is not positive, or the keys depend on each other.
    """
    keys, missing = (np.asarray(x, np.float64) for x in (keys, missing))
    whitened = scipy.linalg.cho_solve(_factor(C), keys.T)
    gram = keys @ whitened
    if np.linalg.cond(gram) > 1e12:
        raise InputError(
            f"weight edit: the {len(keys)} keys depend on each other, so they cannot all mean what they are told"
        )
    return whitened @ np.linalg.solve(gram, missing)


def batch(
    C: Float[np.ndarray, "M M"],
    keys: Float[np.ndarray, "N M"],
    missing: Float[np.ndarray, "N D"],
    weight: float,
) -> Float[np.ndarray, "M D"]:
    """Δ of least squares; `weight` is λ, above 0: how many keys the text counts for.

    Raises:
      InputError: λ is not above 0, or λC + KᵀK is not positive.
    """
    keys, missing = (np.asarray(x, np.float64) for x in (keys, missing))
    if not weight > 0:
        raise InputError(f"weight edit: weight = {weight}: must be above 0; `exact` has none")
    return scipy.linalg.cho_solve(_factor(weight * np.asarray(C, np.float64) + keys.T @ keys), keys.T @ missing)


def _factor(C: np.ndarray) -> Any:
    try:
        return scipy.linalg.cho_factor(np.asarray(C, np.float64))
    except np.linalg.LinAlgError:
        raise InputError(
            "weight edit: the second moment of keys is not positive: some neurons are silent or depend on each other on this"
            " text; give more text, or damping to `second_moment`"
        ) from None


def associations(
    model: Model, params: Any, tokens: Int[Array, "N P"], positions: Int[np.ndarray, " N"], layer: int
) -> Associations:
    """What the MLP of a layer reads and says at a position of each prompt, in one pass."""
    _, seen = taps.record(model, {KEYS: (layer,), VALUES: (layer,)})(params, tokens)
    at = np.arange(len(tokens)), np.asarray(positions)
    return Associations(*(np.asarray(seen[site][0], np.float64)[at] for site in (KEYS, VALUES)))


def optimised_values(
    model: Model,
    params: Any,
    tokens: Int[Array, "N P"],
    positions: Int[np.ndarray, " N"],
    layer: int,
    loss: Callable[[Array], Float[Array, " N"]],
    steps: int = 50,
    learning_rate: float = 0.1,
    decay: float = 1e-3,
) -> Float[np.ndarray, "N D"]:
    """Values with which the model says what is wanted: found by gradient at the MLP's output, prompt by prompt in one program.

        v_n = y_n + δ_n,   δ = argmin Σ_n loss_n(logits) + decay ‖δ_n‖²              (Meng et al. 2022, section 3.1)

    Args:
      model: (parameters, tokens) -> logits, with taps.
      params: frozen.
      tokens: prompts.
      positions: at which each prompt's key is, and its value is changed.
      layer: of the MLP.
      loss: of logits, one number for each prompt.
      steps: of Adam.
      learning_rate: of Adam.
      decay: on what is added.
    """
    here = (jnp.arange(tokens.shape[1]) == jnp.asarray(positions)[:, None])[..., None]

    def total(delta: Array) -> Array:
        edits = {VALUES: Edit("add", delta[:, None], here, layer)}
        return (loss(taps.edit(model)(edits, params, tokens)) + decay * jnp.square(delta).sum(-1)).sum()

    method = optax.adam(learning_rate)

    def step(_: Any, carry: Any) -> Any:
        delta, state = carry
        updates, state = method.update(jax.grad(total)(delta), state)
        return optax.apply_updates(delta, updates), state

    @jax.jit
    def whole(start: Array) -> Array:
        return jax.lax.fori_loop(0, steps, step, (start, method.init(start)))[0]

    values = associations(model, params, tokens, positions, layer).values
    return values + np.asarray(whole(jnp.zeros(values.shape, params["embed"]["W_E"].dtype)), np.float64)


def with_weights(params: Params, cfg: TransformerConfig, layer: int, delta: Float[np.ndarray, "M D"]) -> Params:
    """Parameters with Δ added to the second matrix of a layer's MLP; the others are shared, not copied.

    Raises:
      InputError: a model without MLPs, a layer that it lacks, or another shape.
    """
    if not cfg.d_mlp:
        raise InputError("weight edit: the model has no MLPs (model.d_mlp = 0)")
    W_out = jnp.asarray(params["blocks"]["mlp"]["W_out"])
    if not 0 <= layer < len(W_out) or np.shape(delta) != W_out.shape[1:]:
        raise InputError(
            f"weight edit: {np.shape(delta)} at layer {layer}; W_out is {W_out.shape[1:]} in layers 0 to {len(W_out) - 1}"
        )
    changed = W_out.at[layer].add(jnp.asarray(delta, W_out.dtype))
    mlp = {**params["blocks"]["mlp"], "W_out": changed}
    return {**params, "blocks": {**params["blocks"], "mlp": mlp}}
