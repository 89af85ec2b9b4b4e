"""Sparse synthetic features with known truth (Elhage et al. 2022): what toy models of superposition are grown on.

A feature is present with probability p = 1 − sparsity; its value is then uniform on [0, 1), or on [−1, 1) where signed.
One uniform draw u decides both: present where u < p, and given that, u / p is uniform again.

Sets of neighbours (0 1 … k−1), (k … 2k−1), … may hang together:
    independent      every feature on its own
    correlated       the features of a set are present together, with values of their own
    anticorrelated   a set is present with probability p, and then exactly one of its features is
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.errors import InputError, nearest
from interp_jax.parts import hyper, part
from interp_jax.randomness import GENERATORS, Scalar, uniform

DEPENDENCES = ("independent", "correlated", "anticorrelated")
SIGNS = ("positive", "both")


@part
class Features:
    """The law of the features.

    Attributes:
      sparsity: probability that a feature (anticorrelated: a set) is absent.
      importance_decay: feature i weighs importance_decay^i in the loss ...
      last_importance: ... and the last one this many times more.
      signs: "positive" or "both".
      dependence: how the features of a set hang together; see the module.
      set_size: features in a set; must divide their number where they depend on each other.
      generator: "threefry", or "counter", which is several times cheaper on a CPU.
    """

    sparsity: float = hyper(0.9)
    importance_decay: float = hyper(1.0)
    last_importance: float = hyper(1.0)
    signs: str = "positive"
    dependence: str = "independent"
    set_size: int = 2
    generator: str = "threefry"

    def check(self, n_features: int) -> None:
        """Raise `InputError` for impossible values."""
        if not 0 <= self.sparsity < 1:
            raise InputError(f"data.sparsity: {self.sparsity} is not in [0, 1)")
        if self.importance_decay <= 0 or self.last_importance <= 0:
            raise InputError("data: importance_decay and last_importance must be positive")
        for name, known in (("signs", SIGNS), ("dependence", DEPENDENCES), ("generator", GENERATORS)):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"data.{name}: unknown {value!r}; {nearest(value, known)}")
        if self.set_size < 1 or (self.dependence != "independent" and n_features % self.set_size):
            raise InputError(f"data.set_size: {self.set_size} does not divide model.n_features = {n_features}")


def draw_features(
    law: Features, n_features: int, n_examples: int, seed: Scalar, stream: str, step: Scalar
) -> Float[Array, "S B"]:
    """The examples of (seed, stream, step), batch-minor."""
    p = 1.0 - law.sparsity
    per_p = 1.0 / p  # products with it are several times cheaper than divisions by p
    n_sets = n_features // law.set_size
    if law.dependence == "independent":
        u = uniform(law.generator, seed, stream, step, (n_features, n_examples))
        present, value = u < p, u * per_p
    elif law.dependence == "correlated":
        chance = uniform(law.generator, seed, f"{stream}/presence", step, (n_sets, n_examples))
        present = jnp.repeat(chance < p, law.set_size, axis=0)
        value = uniform(law.generator, seed, stream, step, (n_features, n_examples))
    else:
        u = uniform(law.generator, seed, stream, step, (n_sets, n_examples))
        place = law.set_size * u * per_p  # its whole part says which feature of the set, its fraction the value
        member = jnp.arange(law.set_size)[:, None]
        present = ((u < p)[:, None] & (jnp.floor(place)[:, None] == member)).reshape(n_features, n_examples)
        value = jnp.repeat(place % 1.0, law.set_size, axis=0)
    if law.signs == "both":
        value = 2.0 * value - 1.0
    return jnp.where(present, value, 0.0)


def importance(law: Features, n_features: int) -> Float[Array, "S"]:
    """Weight of each feature in the loss: importance_decay^i, the last one times last_importance."""
    index = jnp.arange(n_features)
    weight = jnp.asarray(law.importance_decay, jnp.float32) ** index
    return jnp.where(index == n_features - 1, law.last_importance * weight, weight)
