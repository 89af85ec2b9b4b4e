"""Train dictionaries on activations made of known features, and measure what they recover.

Observed of every member, on fresh examples, N blocks of them:

    sums.* [N …]                        see `measures/fidelity.py`
    detections.fired, .actual, .both    [F], of every feature as a detector of the true one that it is most like
    recalls.* [S], standing_cosine [S]  see `measures/absorption.py`
    true_l0 []                          true features per example
    mcc, mean_max_cosine, uniqueness    []; see `measures/recovery.py`
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from interp_jax.data.known_features import Law, draw_known, law_of
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.measures.absorption import recalls
from interp_jax.dictionaries.measures.fidelity import sums
from interp_jax.dictionaries.measures.recovery import cosines, detect, found_directions
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.experiments.dictionaries.told import complaint
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.known_features.config import Config
from interp_jax.experiments.known_features.toy import grown_directions
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import RunState


class Stream(NamedTuple):
    """The examples of the steps from `first` on."""

    first: Int32[Array, ""]
    x: Float[Array, "T B D"]


def reads(config: Config) -> Config:
    """What of a config its stream of examples is a function of."""
    examples = {name: getattr(config, name) for name in ("data", "toy", "batch_size", "stream_steps", "stream_seed")}
    return Config(**examples)


def reading(config: Config) -> Law:
    """The law of the features, whose directions may be those of a toy."""
    law = jax.jit(law_of, static_argnums=0)(config.data)
    if config.toy.steps:
        law = law._replace(directions=grown_directions(config.toy, config.data))
    return law


def experiment(config: Config, law: Law | None = None) -> Experiment:
    """The runs of a group, which share one stream of examples.

    Args:
      config: of any member.
      law: as `reading` says; None asks it.
    """
    run = dictionary_run(batch_of, described)
    law = reading(reads(config)) if law is None else law
    observe_at = tuple(sorted({max(1, config.steps // part) for part in (10, 3, 1)}))
    complain = partial(complaint, config.dictionary)
    return Experiment(
        run, observe, observe_at, law, stream_of(config), config.stream_steps, complain=complain, analyse=analyse
    )


def stream_of(config: Config) -> Any:
    """What draws the examples of `stream_steps` steps."""

    def draw(law: Law, first: Int32[Array, ""]) -> Stream:
        def one(step: Array) -> Array:
            return draw_known(law, config.data, config.batch_size, config.stream_seed, "train", step).x

        return Stream(first, jax.lax.map(one, first + jnp.arange(config.stream_steps)))

    return draw


def batch_of(hypers: Config, stream: Stream, seed: Array, step: Array) -> Batch:
    """The examples of a step."""
    x = jax.lax.dynamic_index_in_dim(stream.x, step - stream.first, keepdims=False)
    return Batch(x, x)


def described(hypers: Config) -> tuple[Dictionary, Optimizer, int]:
    """The dictionary, its optimizer and its steps."""
    return hypers.dictionary, hypers.optimizer, hypers.steps


def observe(state: RunState, hypers: Config, law: Law) -> dict[str, Array]:
    """Sums over fresh examples."""
    cfg, params = hypers.dictionary, state.params
    C = cosines(params["W_dec"], law.directions)
    matched, standing = C.argmax(1), C.argmax(0)

    def block(step: Array) -> Any:
        examples = draw_known(law, hypers.data, hypers.measure.examples, hypers.stream_seed, "evaluation", step)
        said, f = dictionary.reconstruct(params, examples.x, cfg)
        c = examples.coefficients
        counts = detect(f, c, matched), recalls(f, c, law.parent, standing)
        return sums(examples.x, said, f), *counts, (c != 0).sum(1).mean()

    measured, detections, recalled, true_l0 = jax.lax.map(block, jnp.arange(hypers.measure.blocks))
    named = {f"sums.{name}": value for name, value in measured._asdict().items()}
    named |= {f"detections.{name}": value.sum(0) for name, value in detections._asdict().items()}
    named |= {f"recalls.{name}": value.sum(0) for name, value in recalled._asdict().items()}
    return named | {"standing_cosine": C.max(0), "true_l0": true_l0.mean()}


def analyse(state: RunState, hypers: Config, law: Law) -> dict[str, np.ndarray]:
    """How far the directions in use are those of true features."""
    used = int(hypers.dictionary.width) or hypers.dictionary.n_features
    found = found_directions(cosines(state.params["W_dec"][:used], law.directions))
    return {name: np.asarray(value, np.float32) for name, value in found._asdict().items()}
