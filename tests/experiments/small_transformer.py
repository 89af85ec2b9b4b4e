"""A small transformer that lies over all devices, for tests of what is large; it may ask its job to stop at a step."""

import os
import signal

from interp_jax import randomness
from interp_jax.data.sequences import induction_batch
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.grow.runs import over_devices
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page
from interp_jax.train.language import next_token_losses
from interp_jax.train.mesh import over_examples
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.run import training_run

STOP_AT = "STOP_AT"
LENGTH = 13


@part
class Config:
    seed: int = hyper(0)
    steps: int = 24
    batch_size: int = 8
    model_shards: int = 2
    model: TransformerConfig = TransformerConfig(
        n_layers=2, d_model=16, n_heads=4, d_head=4, d_vocab=32, n_context=12, d_mlp=24, biases="none"
    )
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-2)


def experiment(config):
    def batch(hypers, seed, step):
        return induction_batch(seed, step, hypers.batch_size, LENGTH, hypers.model.d_vocab)

    def loss(params, hypers, seed, step, shared):
        tokens = over_examples(batch(hypers, seed, step))
        return next_token_losses(params, tokens, hypers.model).mean(), {}

    def observe(state, hypers, shared):
        return {"held_out": next_token_losses(state.params, batch(hypers, 1, 0), hypers.model).mean()}

    def complain(step, metrics):
        if step == int(os.environ.get(STOP_AT, "-1")):
            os.kill(os.getpid(), signal.SIGTERM)
        return ""

    run = training_run(
        lambda seed, hypers: transformer.init(randomness.key(seed, "init"), hypers.model),
        loss,
        lambda hypers: gradient_transformation(hypers.optimizer, hypers.steps),
    )
    made = Experiment(run, observe, (config.steps // 2, config.steps), log_every=2, complain=complain)
    return over_devices(made, config.model_shards, config.batch_size)


def report(groups):
    return Page("A transformer", "Trained.", [])
