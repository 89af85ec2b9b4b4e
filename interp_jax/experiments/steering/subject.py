"""The model that is steered, and the text it is steered on: of a directory, or grown in the run on the same text."""

from typing import Any

import numpy as np
import tokenizers

from interp_jax.data import tokenizer_io
from interp_jax.data.corpus_io import held_out_documents, load_corpus
from interp_jax.data.probing.source_labels import Tokenised, windows_of
from interp_jax.data.probing.variables import Annotated
from interp_jax.data.text import END, TextConfig
from interp_jax.errors import InputError
from interp_jax.experiments.probing.examples import behind, positions_of, text_config
from interp_jax.experiments.steering.config import Config
from interp_jax.experiments.subjects.model import Subject, subject_of
from interp_jax.experiments.subjects.tokens import names_of, prefix_of

LONGEST = 128  # tokens of a window, where none are asked for


def steered(config: Config) -> Subject:
    """The model, without its weights.

    Raises:
      InputError: no such model; one that is not causal, has no logits, or no tokenizer.
    """
    if not config.model.path:
        cfg, data = config.grown.model, config.grown.data
        backend = tokenizers.Tokenizer.from_str(load_corpus(data, cfg.d_vocab).tokenizer)
        tokenizer = tokenizer_io.Tokenizer(backend, "the text's own tokenizer", None, END, None, (), ())
        return Subject(f"a model grown in {config.steps:,} steps", cfg, tokenizer)
    subject = subject_of(config.model)
    if not subject.cfg.causal or subject.cfg.head == "none":
        raise InputError(f"model.path = {config.model.path}: only a causal model with logits writes text to steer")
    if subject.tokenizer is None:
        raise InputError(f"model.path = {config.model.path}: targets are read off text, and {subject.lacks}")
    return subject


def text_of(config: Config) -> TextConfig:
    """The text whose held-out side is read."""
    return text_config(config.model) if config.model.path else config.grown.data


def windows(config: Config, subject: Subject) -> Annotated:
    """Labelled windows of held-out source code.

    Raises:
      InputError: windows beyond the context, or text without any.
    """
    room = positions_of(subject) - len(prefix_of(subject))
    length = config.reading.length or min(room, LONGEST)
    if not 8 <= length <= room:
        raise InputError(f"reading.length = {length}: must be from 8 to the model's room of {room} tokens")
    text = text_of(config)
    documents = held_out_documents(text)
    encoded = subject.tokenizer.backend.encode_batch([d.text for d in documents], add_special_tokens=False)
    tokenised = [Tokenised(d.name, d.text, e.ids, e.offsets) for d, e in zip(documents, encoded, strict=True)]
    source = f"data.dataset = {text.dataset}" if text.dataset else f"held-out files of {text.path}"
    return behind(windows_of(tokenised, config.reading.windows, length, source), prefix_of(subject))


def pieces_of(subject: Subject) -> list[str]:
    """The text of every token."""
    return names_of(np.arange(subject.cfg.d_vocab), subject)


def halves(data: Annotated, seed: int) -> tuple[Any, Any]:
    """Windows to find directions on, and to measure them on: no file is in both.

    Raises:
      InputError: a single file.
    """
    n_groups = len(data.names)
    if n_groups < 2:
        raise InputError(
            f"{data.source}: {n_groups} file has windows; there must be one to find and one to measure on"
        )
    sizes, weight = np.bincount(data.group, minlength=n_groups), [0, 0]
    fit = np.zeros(n_groups, bool)
    for group in np.random.default_rng(seed).permutation(n_groups):
        side = int(weight[1] <= weight[0])  # the one that has less
        fit[group] = side == 1
        weight[side] += sizes[group]
    return np.flatnonzero(fit[data.group]), np.flatnonzero(~fit[data.group])
