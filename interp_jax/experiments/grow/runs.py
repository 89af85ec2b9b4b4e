"""Grow a small transformer on real text and watch what its heads become (Elhage et al. 2021; Olsson et al. 2022).

The stream is "text" (a corpus: `data`), or "repeats": random segments that repeat themselves, which are no text at all but
grow an induction circuit in a minute. Observed along training, at steps spread logarithmically:

    held_out_loss, token_losses [W P], loss_by_position [P], in_context_score     on windows of held-out documents
    windows.*             scores of heads [L H] on held-out windows as they are
    random.*, held_out.*  scores of heads [L H] and the loss on each copy, on repeated random tokens and on repeated segments
                          of held-out windows
    pattern [L H Q K]     attention on a held-out snippet
    samples [S N]         what the model writes after held-out prompts; the first of them greedily
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import randomness, taps
from interp_jax.anatomy.heads import head_scores, repeated_head_scores
from interp_jax.anatomy.text_curves import in_context_score, loss_by_position
from interp_jax.data.sequences import repeated, repeated_random
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.grow.stream import (
    MEASURING,
    TEMPERATURE,
    Config,
    Shared,
    prompts_of,
    shared_arrays,
    training_batch,
)
from interp_jax.models import transformer
from interp_jax.models.generation import Sampling, generate
from interp_jax.models.partition import partition_rules
from interp_jax.models.transformer import TransformerConfig
from interp_jax.train.language import next_token_losses, token_losses
from interp_jax.train.mesh import MODEL, grid_for, on_mesh, over_examples, shardings
from interp_jax.train.optimizer import gradient_transformation
from interp_jax.train.run import RunState, training_run

N_REPEATED = 16  # sequences on which heads are scored


def experiment(config: Config) -> Experiment:
    """The runs of `config`'s group."""

    def init_params(seed: Array, hypers: Config) -> transformer.Params:
        return transformer.init(randomness.key(seed, "init"), hypers.model)

    def loss(params: Any, hypers: Config, seed: Array, step: Array, shared: Shared) -> tuple[Array, dict[str, Array]]:
        tokens = over_examples(training_batch(hypers, shared, seed, step))
        return next_token_losses(params, tokens, hypers.model).mean(), {}

    run = training_run(init_params, loss, lambda hypers: gradient_transformation(hypers.optimizer, hypers.steps))
    made = Experiment(run, observe, observation_steps(config), shared_arrays(config))
    return over_devices(made, config.model_shards, config.batch_size) if config.model_shards else made


def over_devices(made: Experiment, model_shards: int, batch_size: int) -> Experiment:
    """The same of transformers that each lie over all devices."""
    mesh, rules = grid_for(model_shards, batch_size), partition_rules(MODEL)
    return made._replace(run=on_mesh(made.run, mesh), lay=lambda state: shardings(state, rules, mesh))


def observation_steps(config: Config) -> tuple[int, ...]:
    """Steps from 1 to the last, spread logarithmically."""
    spread = np.geomspace(1, config.steps, config.measure.observations)
    return tuple(sorted({round(float(s)) for s in spread} | {config.steps}))


def observe(state: RunState, hypers: Config, shared: Shared) -> dict[str, Array]:
    """All measurements of one member at one step."""
    params, cfg = state.params, hypers.model
    losses = next_token_losses(params, shared.held_out, cfg)
    found = {
        "held_out_loss": losses.mean(),
        "in_context_score": in_context_score(losses),
        "loss_by_position": loss_by_position(losses),
        "token_losses": losses,
        "pattern": patterns(params, shared.held_out[:1, : hypers.measure.snippet], cfg)[1][:, 0],
        "samples": write_samples(params, hypers, shared),
    }
    period, plain = cfg.n_context // 2, shared.held_out[:N_REPEATED, :-1]
    scores = head_scores(patterns(params, plain, cfg)[1], plain)
    found |= {f"windows.{kind}": score for kind, score in scores._asdict().items()}
    random = repeated_random(MEASURING, 0, N_REPEATED, period, cfg.d_vocab)
    real = repeated(shared.held_out[:N_REPEATED, :period])
    for name, tokens in {"random": random, "held_out": real}.items():
        found |= {f"{name}.{key}": value for key, value in measure_repeats(params, tokens, cfg).items()}
    return found


def measure_repeats(params: Any, tokens: Int[Array, "B P"], cfg: TransformerConfig) -> dict[str, Array]:
    """Head scores [L H] and the mean loss on the first and on the second copy of a repeated segment."""
    period = tokens.shape[1] // 2
    logits, pattern = patterns(params, tokens, cfg)
    losses = token_losses(logits[:, :-1], tokens[:, 1:])
    scores = repeated_head_scores(pattern, period)
    return {
        **scores._asdict(),
        "first_copy_loss": losses[:, : period - 1].mean(),
        "second_copy_loss": losses[:, period:].mean(),
    }


def patterns(
    params: Any, tokens: Int[Array, "B P"], cfg: TransformerConfig
) -> tuple[Float[Array, "B P V"], Float[Array, "L B H P P"]]:
    """Logits and attention patterns."""
    model = lambda params, tokens: transformer.apply(params, tokens, cfg)
    logits, acts = taps.record(model, ["blocks.attn.pattern"])(params, tokens)
    return logits, acts["blocks.attn.pattern"]


def write_samples(params: Any, hypers: Config, shared: Shared) -> Int[Array, "S N"]:
    """Continuations of the beginnings of held-out windows: the first greedy, the others at `TEMPERATURE`."""
    prompts = prompts_of(shared.held_out, hypers)
    temperature = jnp.full((len(prompts), 1), TEMPERATURE).at[0].set(0.0)
    key = randomness.key(MEASURING, "samples")
    return generate(params, prompts, hypers.model, hypers.measure.sample_length, key, Sampling(temperature))
