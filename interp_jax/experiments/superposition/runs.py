"""Toy models of superposition: grow populations of them over sparsity, importance and seeds (Elhage et al. 2022)."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from interp_jax import randomness
from interp_jax.data.features import Features, draw_features, importance
from interp_jax.errors import InputError
from interp_jax.experiments.experiment import Experiment
from interp_jax.models import computation, superposition
from interp_jax.models.superposition import ToyModel
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.run import RunState, training_run

MODELS = {"relu": superposition, "linear": superposition, "absolute": computation}
N_EVALUATION = 16_384  # fresh examples on which the loss is observed


@part
class Config:
    """One toy model: its seed, training length and parts."""

    seed: int = hyper(0)
    steps: int = 5_000
    batch_size: int = 1_024
    model: ToyModel = ToyModel()
    data: Features = Features()
    optimizer: Optimizer = Optimizer()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.steps < 1 or self.batch_size < 1:
            raise InputError("steps and batch_size must be at least 1")
        self.model.check()
        self.data.check(self.model.n_features)
        self.optimizer.check()
        if self.model.kind == "absolute" and self.data.signs != "both":
            raise InputError("data.signs: the absolute value of positive features is the identity; use 'both'")


def experiment(config: Config) -> Experiment:
    """The runs of `config`'s group. Observed: the weights under their names, and `loss` on fresh examples."""
    model = MODELS[config.model.kind]

    def init_params(seed: Array, hypers: Config) -> superposition.Params:
        return model.init(randomness.key(seed, "init"), hypers.model)

    def loss_on(params: Any, hypers: Config, n_examples: int, seed: Array, stream: str, step: Array) -> Array:
        n_features = hypers.model.n_features
        x = draw_features(hypers.data, n_features, n_examples, seed, stream, step)
        return model.loss(params, x, importance(hypers.data, n_features), hypers.model)

    def loss(params: Any, hypers: Config, seed: Array, step: Array, shared: Any) -> tuple[Array, dict[str, Array]]:
        return loss_on(params, hypers, hypers.batch_size, seed, "train", step), {}

    def observe(state: RunState, hypers: Config, shared: Any) -> dict[str, Array]:
        fresh = loss_on(state.params, hypers, N_EVALUATION, state.seed, "evaluation", jnp.int32(0))
        return {**state.params, "loss": fresh}

    run = training_run(init_params, loss, lambda hypers: gradient_transformation(hypers.optimizer, hypers.steps))
    return Experiment(run, observe, observation_steps(config.steps))


def observation_steps(steps: int) -> tuple[int, ...]:
    """A hundredth, a tenth, a third and the whole of the run."""
    return tuple(sorted({max(1, steps // part_of) for part_of in (100, 10, 3, 1)}))
