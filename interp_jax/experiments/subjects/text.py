"""The text that a model is looked at on: the one that it was grown on, or, of a published model, the one that is asked for.

A published model's text is read by its own tokenizer. What that puts before a text, such as a BOS, stands at the beginning of
every window, and an end of sequence follows every document where the tokenizer has one. Such tokens are no text: rows of them
do not count.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Int

from interp_jax.activations.harvest import Harvest
from interp_jax.data.corpus_io import encoded_corpus, held_out_documents
from interp_jax.data.probing.source_labels import Tokenised
from interp_jax.data.text import END, Corpus, TextConfig
from interp_jax.errors import InputError
from interp_jax.experiments.grow.stream import corpus_of
from interp_jax.experiments.subjects.grown import find_run, is_run_directory
from interp_jax.experiments.subjects.model import Model, Subject, subject_of
from interp_jax.experiments.subjects.tokens import prefix_of
from interp_jax.models.transformer import TransformerConfig

LONGEST = 256  # tokens of a published model's window, where none are asked for


class Marks(NamedTuple):
    """Tokens that are no text: those before every window, the one that ends a document, and all of them."""

    prefix: tuple[int, ...]
    end: int | None
    every: tuple[int, ...]


def marks_of(subject: Subject | None) -> Marks:
    """A published model's; of one that was grown here, None, its end of text alone."""
    if subject is None or subject.tokenizer is None:
        return Marks((), END, (END,))
    own = subject.tokenizer
    special = {*own.prefix, *own.suffix, *(i for i in (own.bos, own.eos, own.pad) if i is not None)}
    return Marks(own.prefix, own.eos, tuple(sorted(special)))


def is_grown(model: Model) -> bool:
    """Whether it is a directory of runs."""
    return bool(model.path) and is_run_directory(model.path)


def marks(model: Model) -> Marks:
    """Of the model that a config names."""
    return marks_of(None if not model.path or is_grown(model) else subject_of(model))


def settled(harvest: Harvest, model: Model) -> Harvest:
    """How activations are harvested, tokens that are no text left out too."""
    return replace(harvest, excluded=tuple(sorted({*harvest.excluded, *marks(model).every})))


class Text(NamedTuple):
    """Both sides of a text in tokens, and the tokens before each of its windows."""

    train: Int[np.ndarray, " N"]
    held_out: Int[np.ndarray, " M"]
    prefix: tuple[int, ...]
    source: str


def text_of(field: str, model: Model, data: TextConfig) -> Text:
    """The text that a model reads; see `corpus_for`."""
    corpus = corpus_for(field, model, data)
    train, held_out = (np.asarray(side).astype(np.int32) for side in (corpus.train, corpus.held_out))
    return Text(train, held_out, marks(model).prefix, corpus.source)


def check_length(text: Text, length: int) -> None:
    """Raise `InputError` for a text without a window and its target."""
    for side, tokens in (("training", text.train), ("held-out", text.held_out)):
        if len(tokens) < length + 1:
            raise InputError(
                f"{text.source}: its {side} side has {len(tokens)} tokens, fewer than a window of {length} and a target; give"
                " more text or a smaller context"
            )


def corpus_for(field: str, model: Model, data: TextConfig) -> Corpus:
    """The corpus of a model.

    Raises:
      InputError: no model, one without a text or a tokenizer, or another text than the one that a model was grown on.
    """
    if not model.path:
        raise InputError(
            f"{field}.path is empty: give the directory of a finished configs/grow.py, whose text is read too, or of published"
            " weights"
        )
    if not is_grown(model):
        subject = subject_of(model)
        if subject.tokenizer is None:
            raise InputError(f"{field}.path = {model.path!r}: its text needs a tokenizer, and {subject.lacks}")
        return encoded_corpus(data, subject.tokenizer.backend, marks_of(subject).end)
    run = find_run(model.path, model.run)
    if data != TextConfig():
        raise InputError(f"data: {run.name} is looked at on the text that it was grown on; leave it at its default")
    if run.member.part.stream != "text":
        raise InputError(f"{field}.path = {model.path!r}: it was grown on sequences of ids that stand for no text")
    return corpus_of(run.member.part)


def documents_of(model: Model, data: TextConfig) -> list[Tokenised]:
    """The documents of the held-out side, with the characters of each token."""
    if is_grown(model):
        part = find_run(model.path, model.run).member.part
        data, backend = part.data, tokenizers.Tokenizer.from_str(corpus_of(part).tokenizer)
    else:
        backend = subject_of(model).tokenizer.backend
    documents = held_out_documents(data)
    encoded = backend.encode_batch([d.text for d in documents], add_special_tokens=False)
    return [Tokenised(d.name, d.text, e.ids, e.offsets) for d, e in zip(documents, encoded, strict=True)]


def reading(field: str, subject: Subject, grown: bool, context: int) -> TransformerConfig:
    """The model's configuration, its context that of the windows it is looked at on.

    Raises:
      InputError: a model that predicts no next token, or windows for which it, or what stands before them, has no room.
    """
    cfg, before = subject.cfg, len(prefix_of(subject))
    if not cfg.causal or cfg.head != "linear":
        raise InputError(
            f"{field}.path: {subject.name} does not predict the next token, by which dictionaries are measured"
        )
    length = context or (cfg.n_context if grown else min(cfg.n_context, LONGEST))
    if not before + 1 < length <= cfg.n_context:
        raise InputError(
            f"context = {context}: {subject.name} has room for {cfg.n_context} tokens, {before} of them its own"
        )
    return replace(cfg, n_context=length)


def behind(prefix: Sequence[int], windows: Int[np.ndarray, "... P"]) -> Int[np.ndarray, "... N"]:
    """Windows, each behind some tokens."""
    if not len(prefix):
        return windows
    before = np.broadcast_to(np.asarray(prefix, windows.dtype), (*windows.shape[:-1], len(prefix)))
    return np.concatenate([before, windows], axis=-1)
