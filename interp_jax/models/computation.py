"""Computation in superposition (Elhage et al. 2022): a hidden ReLU layer of few neurons computes y = |x| of sparse features.

    h = ReLU(W_inᵀ x)      ŷ = ReLU(W_outᵀ h + b_out)      loss = mean over batch and features of importance · (|x| − ŷ)²

|x| = ReLU(x) + ReLU(−x): a feature that has two neurons of its own is computed exactly; with fewer neurons than that they are
shared. Batches are batch-minor, x [S, B], with values of both signs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.models.superposition import Params, ToyModel
from interp_jax.taps import tap


def init(key: Key[Array, ""], cfg: ToyModel) -> Params:
    """`W_in` [S, D] and `W_out` [D, S] normal with variance init_scale² · 2 / (S + D), `b_out` [S] zero."""
    std = cfg.init_scale * (2.0 / (cfg.n_features + cfg.n_hidden)) ** 0.5
    key_in, key_out = jax.random.split(key)
    return {
        "W_in": std * jax.random.normal(key_in, (cfg.n_features, cfg.n_hidden)),
        "W_out": std * jax.random.normal(key_out, (cfg.n_hidden, cfg.n_features)),
        "b_out": jnp.zeros(cfg.n_features),
    }


def apply(params: Params, x: Float[Array, "S B"], cfg: ToyModel) -> Float[Array, "S B"]:
    """The computed |x|. Sites: `hidden` [D, B] after the ReLU, `pre` [S, B], `out` [S, B]."""
    del cfg
    hidden = tap(jax.nn.relu(params["W_in"].T @ x), "hidden")
    pre = tap(params["W_out"].T @ hidden + params["b_out"][:, None], "pre")
    return tap(jax.nn.relu(pre), "out")


def loss(params: Params, x: Float[Array, "S B"], importance: Float[Array, "S"], cfg: ToyModel) -> Float[Array, ""]:
    """Mean over features and batch of importance · (|x| − ŷ)²."""
    return jnp.mean(importance[:, None] * (jnp.abs(x) - apply(params, x, cfg)) ** 2)
