"""A small experiment for tests of the engine: fit a line by gradient steps on noisy data, one number per member."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.experiments.experiment import Experiment
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page
from interp_jax.train.run import training_run


@part
class Model:
    width: int = 3


@part
class Data:
    noise: float = hyper(0.1)
    examples: int = 8


@part
class Config:
    seed: int = hyper(0)
    steps: int = 40
    learning_rate: float = hyper(0.1)
    name: str = "line"
    model: Model = Model()
    data: Data = Data()

    def check(self):
        if self.steps < 1:
            raise InputError(f"steps must be at least 1, got {self.steps}")


def experiment(config):
    def init_params(seed, hypers):
        return {"w": jax.random.normal(randomness.key(seed, "init"), (hypers.model.width,))}

    def loss(params, hypers, seed, step, shared):
        n = hypers.data.examples
        x = jax.random.normal(randomness.key(seed, "data", step), (n, hypers.model.width))
        noise = jax.random.normal(randomness.key(seed, "noise", step), (n,)) * hypers.data.noise
        error = x @ (params["w"] - shared) - noise
        return (error**2).mean(), {"first": params["w"][0]}

    def optimizer(hypers):
        return optax.inject_hyperparams(optax.adam)(learning_rate=hypers.learning_rate)

    def observe(state, hypers, shared):
        return {"w": state.params["w"], "distance": jnp.linalg.norm(state.params["w"] - shared)}

    steps = (*range(0, config.steps, 8), config.steps)
    shared = jnp.arange(1.0, config.model.width + 1)
    return Experiment(training_run(init_params, loss, optimizer), observe, steps, shared, log_every=3)


def report(groups):
    final = [(h, w) for g in groups for h, w in zip(g.hashes, g.observations[max(g.observations)]["w"], strict=True)]
    return Page("Lines", "Fitted.", [], {"weights.json": {h: w for h, w in final}})


def digest_of(directory):
    """All bytes that a resumed run must repeat: {name: bytes} of metrics, observations and final checkpoint arrays."""
    found = {}
    for path in sorted(Path(directory).glob("chunks/*/metrics.jsonl")):
        found[f"{path.parent.name}/metrics"] = path.read_bytes()
    for path in sorted(Path(directory).glob("chunks/*/observations/*.npz")):
        arrays = np.load(path)
        found[f"{path.parent.parent.name}/{path.stem}"] = {name: arrays[name].tobytes() for name in arrays.files}
    return found
