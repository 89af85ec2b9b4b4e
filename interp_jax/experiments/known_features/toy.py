"""Directions that a toy model of superposition grew: known features, packed as training packs them (Elhage et al. 2022)."""

import jax
import numpy as np
from jaxtyping import Array, Float

from interp_jax.data.features import Features
from interp_jax.data.known_features import KnownFeatures
from interp_jax.errors import InputError
from interp_jax.experiments import superposition
from interp_jax.models.superposition import ToyModel
from interp_jax.parts import part
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import Span


@part
class Toy:
    """The toy whose hidden activations dictionaries read; 0 steps for directions that are not grown.

    Attributes:
      steps: of its training.
      learning_rate: of its training.
    """

    steps: int = 0
    learning_rate: float = 3e-3

    def check(self, data: KnownFeatures) -> None:
        """Raise `InputError` for a law that a toy cannot be grown on."""
        if self.steps < 0 or not self.learning_rate > 0:
            raise InputError("toy: steps must be at least 0, learning_rate positive")
        if self.steps and (data.p_first != data.p_last or data.roots or data.d_model > data.n_features):
            raise InputError(
                "toy: it is grown on features that are equally frequent, in no trees, and at least as many as dimensions: set "
                "data.p_first = data.p_last, data.roots = 0"
            )


def grown_directions(toy: Toy, data: KnownFeatures) -> Float[Array, "S D"]:
    """The rows of W of a toy that was grown on features as frequent as these, of seed `data.law_seed`."""
    config = superposition.Config(
        seed=data.law_seed,
        steps=toy.steps,
        model=ToyModel(n_features=data.n_features, n_hidden=data.d_model),
        data=Features(sparsity=1 - data.p_first),
        optimizer=Optimizer(name="adamw", learning_rate=toy.learning_rate, decay="cosine"),
    )
    run = superposition.experiment(config).run
    grow = jax.jit(lambda config, span: run.advance(run.init(config.seed, config), config, span, ())[0].params["W"])
    return grow(config, Span(np.int32(0), np.int32(toy.steps)))
