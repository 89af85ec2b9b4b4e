"""Runs that add up a stream which all of them read, of two kinds (`width`): an experiment for tests of what goes on in step."""

import os

import jax.numpy as jnp
import numpy as np

from interp_jax.errors import InputError
from interp_jax.experiments.experiment import Experiment
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page
from interp_jax.train.run import ALIVE, Moved, RunState, stepwise

LOG = "INTERP_JAX_TALLY_LOG"  # a file that is told of each stretch that is loaded, and of each reading that is made


@part
class Config:
    seed: int = hyper(0)
    steps: int = 12
    stream_steps: int = 4
    stream_seed: int = 0
    width: int = 1
    fails: str = ""


def tell(what):
    with open(os.environ[LOG], "a") as file:
        file.write(f"{what}\n")


def reads(config):
    return Config(stream_steps=config.stream_steps, stream_seed=config.stream_seed)


def reading(config):
    tell("reading")
    return np.float32(config.stream_seed)


def experiment(config, read):
    if config.fails == "building":
        raise InputError("this width cannot be built")

    def init(seed, hypers):
        return RunState(jnp.asarray(seed, jnp.int32), jnp.zeros(config.width), (), jnp.int32(ALIVE))

    def step(state, hypers, t, data):
        first, values = data
        read = values[t - first] * jnp.ones(config.width)
        return Moved(lambda: state.replace(params=state.params + read), {"read": read[0]}, jnp.bool_(True))

    def stream(shared, first, loaded):
        return first, loaded + shared

    def load(first):
        tell(f"stretch {first}")
        return np.arange(first, first + config.stream_steps, dtype=np.float32)

    def complain(at, metrics):
        if config.fails == "middle" and at > config.stream_steps:
            raise InputError("this width cannot go on")
        return ""

    return Experiment(
        stepwise(init, step),
        lambda state, hypers, shared: {"sum": state.params.sum() / config.width},
        (5, config.steps),
        read,
        stream,
        config.stream_steps,
        complain=complain,
        load=load,
        log_every=2,
    )


def report(groups):
    return Page("Tallies", "Added up.", [], {})
