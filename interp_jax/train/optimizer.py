"""The optimizer of a run as a part: optax's update rules, with warm-up, decay of the rate, weight decay and clipping.

    rate(t) = learning_rate · min(1, (t + 1) / warmup_steps) · f((t − warmup_steps) / (steps − warmup_steps))
    f(s)    = final + (1 − final) · {1, 1 − s, (1 + cos πs) / 2}       for decay "constant", "linear", "cosine"

The numbers are `hyper()` fields, traced through optax: a sweep over them is one compiled program, and since a run is given
its hypers at every call, none of them is kept in the optimizer's state.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer

from interp_jax.errors import InputError, nearest
from interp_jax.parts import hyper, part

NAMES = ("adam", "adamw", "sgd", "momentum")
DECAYS = {
    "constant": lambda progress: jnp.ones_like(progress),
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 + 0.5 * jnp.cos(jnp.pi * progress),
}


@part
class Optimizer:
    """An update rule and its schedule.

    Attributes:
      name: "adam", "adamw", "sgd" or "momentum" (sgd with heavy-ball momentum `beta1`).
      decay: shape of the rate after the warm-up: "constant", "linear" or "cosine".
      learning_rate: its largest value.
      final_rate: the rate at the last step, as a fraction of the largest; unused by "constant".
      warmup_steps: steps of linear warm-up.
      weight_decay: of "adamw", decoupled, times the rate; on weights (`W…`) only, not on biases and norms.
      clip_norm: largest global norm of a gradient; 0 leaves gradients alone. Static.
    """

    name: str = "adam"
    decay: str = "constant"
    learning_rate: float = hyper(1e-3)
    final_rate: float = hyper(0.0)
    warmup_steps: int = hyper(0)
    weight_decay: float = hyper(0.0)
    beta1: float = hyper(0.9)
    beta2: float = hyper(0.999)
    epsilon: float = hyper(1e-8)
    clip_norm: float = 0.0

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.name not in NAMES:
            raise InputError(f"optimizer.name: unknown {self.name!r}; {nearest(self.name, NAMES)}")
        if self.decay not in DECAYS:
            raise InputError(f"optimizer.decay: unknown {self.decay!r}; {nearest(self.decay, DECAYS)}")
        for field in ("learning_rate", "final_rate", "warmup_steps", "weight_decay", "clip_norm"):
            if not getattr(self, field) >= 0:
                raise InputError(f"optimizer.{field}: {getattr(self, field)} is negative")
        if self.weight_decay and self.name != "adamw":
            raise InputError(f"optimizer.weight_decay: {self.name!r} has none; use optimizer.name='adamw'")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.epsilon > 0):
            raise InputError("optimizer: beta1 and beta2 must be in [0, 1), epsilon positive")


def gradient_transformation(optimizer: Optimizer, steps: int) -> optax.GradientTransformationExtraArgs:
    """The optax transformation of `optimizer` for a run of `steps` steps; call it inside the traced run."""
    rules = {
        "adam": (optax.scale_by_adam(optimizer.beta1, optimizer.beta2, optimizer.epsilon),),
        "adamw": (
            optax.scale_by_adam(optimizer.beta1, optimizer.beta2, optimizer.epsilon),
            optax.add_decayed_weights(optimizer.weight_decay, mask=weights_only),
        ),
        "sgd": (),
        "momentum": (optax.trace(optimizer.beta1),),
    }
    clip = (clip_by_norm(optimizer.clip_norm),) if optimizer.clip_norm else ()
    descend = optax.scale_by_schedule(lambda count: -rate(optimizer, steps, count))
    return optax.with_extra_args_support(optax.chain(*clip, *rules[optimizer.name], descend))


def clip_by_norm(most: float) -> optax.GradientTransformationExtraArgs:
    """Gradients times min(1, most / norm), the norm of all of them together: `norm` of `update` where it is known.

    As `optax.clip_by_global_norm`, but with one factor for all, which is multiplied where a gradient is read. Optax divides
    by the norm and chooses element by element, and XLA writes the quotients down: two more passes over each gradient.
    """

    def update(
        updates: Any, state: Any, params: Any = None, *, norm: Array | None = None, **_: Any
    ) -> tuple[Any, Any]:
        del params
        norm = optax.tree.norm(updates) if norm is None else norm
        factor = jnp.minimum(1.0, most / norm)
        return jax.tree.map(lambda update: update * factor.astype(update.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def rate(optimizer: Optimizer, steps: int, step: Integer[Array, ""]) -> Float[Array, ""]:
    """The learning rate at a step, counted from 0."""
    warmup = jnp.asarray(optimizer.warmup_steps, jnp.float32)
    rising = jnp.minimum(1.0, (step + 1) / jnp.maximum(warmup, 1.0))
    if optimizer.decay == "constant":
        return optimizer.learning_rate * rising
    progress = jnp.clip((step - warmup) / jnp.maximum(steps - warmup, 1.0), 0.0, 1.0)
    falling = optimizer.final_rate + (1.0 - optimizer.final_rate) * DECAYS[optimizer.decay](progress)
    return optimizer.learning_rate * rising * falling


def weights_only(params: Any) -> Any:
    """True for the leaves whose name begins with `W`: weights, as against biases and norms."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.startswith("W"), params)
