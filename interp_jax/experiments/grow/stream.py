"""What a run of `grow` is and what it reads: its config, and the stream of tokens with the windows to measure on.

The stream is "text" (a corpus: `data`), or "repeats": random segments that repeat themselves, which are no text at all.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from interp_jax.data.corpus_io import load_corpus
from interp_jax.data.sequences import induction_batch
from interp_jax.data.text import Corpus, TextConfig, spread_windows, windows
from interp_jax.errors import InputError, nearest
from interp_jax.models.partition import check_partition
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer

STREAMS = ("text", "repeats")
TEMPERATURE = 0.8  # of all samples but the first
MEASURING = 2**31 - 1  # seed of everything that is drawn to measure: the same for all members


@part
class Measurements:
    """How much is measured at each observation.

    Attributes:
      observations: how many, at steps spread logarithmically.
      windows: held-out windows.
      snippet: tokens of the snippet whose attention patterns are kept.
      samples, sample_length: texts written, and their tokens.
    """

    observations: int = 20
    windows: int = 64
    snippet: int = 48
    samples: int = 3
    sample_length: int = 120


@part
class Config:
    """One transformer: its seed, training length and parts.

    Attributes:
      model_shards: 0 spreads runs over the devices. Else each lies over all of them, for a model that is larger than a device:
        its parameters over so many, or as many as divide that where there are fewer, its examples over the others.
    """

    seed: int = hyper(0)
    steps: int = 6_000
    batch_size: int = 8
    stream: str = "text"
    model_shards: int = 0
    model: TransformerConfig = TransformerConfig()
    data: TextConfig = TextConfig()
    optimizer: Optimizer = Optimizer()
    measure: Measurements = Measurements()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.steps < 1 or self.batch_size < 1:
            raise InputError("steps and batch_size must be at least 1")
        if self.stream not in STREAMS:
            raise InputError(f"stream = {self.stream!r}: {nearest(self.stream, STREAMS)}")
        if self.model.n_context < 16:
            raise InputError(f"model.n_context = {self.model.n_context}: must be at least 16 to measure repetitions")
        self.model.check()
        if self.model_shards < 0:
            raise InputError(f"model_shards = {self.model_shards}: must be at least 0")
        if self.model_shards:
            check_partition(self.model, self.model_shards)
        self.data.check()
        self.optimizer.check()
        m, longest = self.measure, 3 * self.model.n_context // 4
        if min(m.observations, m.windows, m.snippet, m.samples, m.sample_length) < 1:
            raise InputError("measure: every number must be at least 1")
        if m.snippet > self.model.n_context or m.sample_length > longest:
            raise InputError(
                f"measure.snippet must be at most model.n_context = {self.model.n_context} and measure.sample_length at"
                f" most three quarters of it, {longest}"
            )


class Shared(NamedTuple):
    """What all members read.

    Attributes:
      train: the training side of the corpus; empty where the stream is synthetic.
      held_out: windows to measure on, N = P + 1 tokens each, so that every position has a target.
    """

    train: Int[Array, " N"]
    held_out: Int[Array, "W N"]


def training_batch(hypers: Config, shared: Shared, seed: Array, step: Array) -> Int[Array, "B N"]:
    """The data of a step: N = P + 1 tokens, so that every position has a target."""
    length = hypers.model.n_context + 1
    if hypers.stream == "repeats":
        return induction_batch(seed, step, hypers.batch_size, length, hypers.model.d_vocab)
    return windows(shared.train, seed, step, hypers.batch_size, length)


def shared_arrays(config: Config) -> Shared:
    """The arrays of the stream."""
    length, count = config.model.n_context + 1, config.measure.windows
    if config.stream == "repeats":
        held_out = induction_batch(MEASURING, 0, count, length, config.model.d_vocab)
        return Shared(np.zeros(0, np.uint16), np.asarray(held_out))
    corpus = corpus_of(config)
    return Shared(corpus.train, spread_windows(corpus.held_out, count, length))


def corpus_of(config: Config) -> Corpus:
    """The text of a run, tokenised for its model."""
    return load_corpus(config.data, config.model.d_vocab).check(config.model.n_context)


def prompts_of(held_out: Int[Array, "W N"], hypers: Config) -> Int[Array, "S P0"]:
    """The prompts of the samples: a quarter of a context each; few windows serve more than once."""
    rows = jnp.arange(hypers.measure.samples) % held_out.shape[0]
    return held_out[rows, : hypers.model.n_context // 4]
