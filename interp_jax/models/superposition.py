"""Toy models of superposition (Elhage et al. 2022): S sparse features squeezed through D hidden dimensions.

    h = Wᵀx      x̂ = ReLU(W h + b)      loss = mean over batch and features of importance · (x − x̂)²

Row i of `W` [S, D] is the direction of feature i: this W is the transpose of the paper's. Kind "linear" leaves out the ReLU.
Batches are batch-minor, x [S, B], which is twice as fast on a CPU as [B, S].

The gradient is written by hand. With a = W Wᵀ x + b and d = ∂loss/∂a,

    ∂loss/∂W = (Q + Qᵀ) W,  Q = d xᵀ,        ∂loss/∂b = Σ_B d

in this Gram form all large products are [S, S] by [S, B], which on a CPU beats the [S, D] by [D, B] ones of autodiff even
where D is a tenth of S.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.errors import InputError, nearest
from interp_jax.parts import hyper, part
from interp_jax.taps import tap

KINDS = ("relu", "linear", "absolute")  # "absolute" is in `computation.py`

Params = dict[str, Float[Array, "..."]]


@part
class ToyModel:
    """A toy model's shape and the size of its first weights.

    Attributes:
      kind: "relu" or "linear", tied weights that reconstruct x; "absolute", untied weights that compute |x|.
      init_scale: times Glorot's standard deviation. Small weights grow one after another; large ones all compete at once.
    """

    kind: str = "relu"
    n_features: int = 5
    n_hidden: int = 2
    init_scale: float = hyper(1.0)

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.kind not in KINDS:
            raise InputError(f"model.kind: unknown {self.kind!r}; {nearest(self.kind, KINDS)}")
        if self.n_features < 1 or self.n_hidden < 1:
            raise InputError("model: n_features and n_hidden must be at least 1")
        if not self.init_scale > 0:
            raise InputError(f"model.init_scale: {self.init_scale} is not positive")
        if self.kind != "absolute" and self.n_hidden > self.n_features:
            raise InputError(
                f"model.n_hidden: {self.n_hidden} is more than n_features = {self.n_features}: nothing is superposed"
            )


def init(key: Key[Array, ""], cfg: ToyModel) -> Params:
    """`W` [S, D] normal with variance init_scale² · 2 / (S + D), `b` [S] zero."""
    std = cfg.init_scale * (2.0 / (cfg.n_features + cfg.n_hidden)) ** 0.5
    W = std * jax.random.normal(key, (cfg.n_features, cfg.n_hidden))
    return {"W": W, "b": jnp.zeros(cfg.n_features)}


def apply(params: Params, x: Float[Array, "S B"], cfg: ToyModel) -> Float[Array, "S B"]:
    """The reconstruction x̂. Sites: `hidden` [D, B], `pre` [S, B], `out` [S, B]."""
    hidden = tap(params["W"].T @ x, "hidden")
    pre = tap(params["W"] @ hidden + params["b"][:, None], "pre")
    return tap(pre if cfg.kind == "linear" else jax.nn.relu(pre), "out")


def loss(params: Params, x: Float[Array, "S B"], importance: Float[Array, "S"], cfg: ToyModel) -> Float[Array, ""]:
    """Mean over features and batch of importance · (x − x̂)²."""
    return _loss(cfg.kind == "linear", params["W"], params["b"], x, importance)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(linear: bool, W: Array, b: Array, x: Array, importance: Array) -> Array:
    return _forward(linear, W, b, x, importance)[0]


def _forward(linear: bool, W: Array, b: Array, x: Array, importance: Array) -> tuple[Array, Any]:
    pre = (W @ W.T) @ x + b[:, None]
    passes = jnp.ones_like(pre, bool) if linear else pre > 0
    error = jnp.where(passes, pre - x, x)  # up to its sign; one array serves value and gradient
    value = jnp.sum(importance * jnp.sum(error**2, axis=1)) / x.size
    return value, (W, x, importance, passes, error)


def _backward(linear: bool, residuals: Any, cotangent: Array) -> tuple[Array, Array, Array, Array]:
    W, x, importance, passes, error = residuals
    scale = (2.0 / x.size * cotangent * importance)[:, None]
    d = jnp.where(passes, error * scale, 0.0)
    Q = d @ x.T
    d_x = W @ (W.T @ d) + jnp.where(
        passes, -d, error * scale
    )  # this and the next are dropped where nobody asks for them
    d_importance = cotangent * jnp.sum(error**2, axis=1) / x.size
    return (Q + Q.T) @ W, d.sum(1), d_x, d_importance


_loss.defvjp(_forward, _backward)
