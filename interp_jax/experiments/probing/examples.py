"""What is labelled for a model: a person's examples, source code by Python's own tokenize, or sequences that repeat."""

import warnings

import numpy as np

from interp_jax.data.contrast.templates import template_pairs
from interp_jax.data.corpus_io import held_out_documents
from interp_jax.data.probing.sequence_labels import label_pairs, label_sequences
from interp_jax.data.probing.source_labels import Tokenised, windows_of
from interp_jax.data.probing.spans_jsonl_io import read_examples
from interp_jax.data.probing.variables import NONE, Annotated, chosen, repeated_groups
from interp_jax.data.sequences import induction_batch
from interp_jax.data.text import TextConfig
from interp_jax.errors import InputError
from interp_jax.experiments.grow.stream import MEASURING
from interp_jax.experiments.probing.config import SEQUENCES, Config
from interp_jax.experiments.subjects.grown import find_run, is_run_directory
from interp_jax.experiments.subjects.model import Model, Subject
from interp_jax.experiments.subjects.tokens import prefix_of

LONGEST = 256  # tokens of a window, where none are asked for


def labelled(config: Config, subject: Subject) -> Annotated:
    """Windows of tokens with their labels.

    Raises:
      InputError: data that cannot be read, or has no such variable; a text without a tokenizer; windows beyond the context.
    """
    if config.data.path:
        if subject.tokenizer is None:
            raise InputError(f"data.path = {config.data.path!r}: texts need a tokenizer, and {subject.lacks}")
        found = read_examples(config.data.path, subject.tokenizer, positions_of(subject))
    elif config.data.task not in ("", SEQUENCES):
        found = prompts(config, subject)
    elif subject.tokenizer is None or config.data.task:
        n = (config.data.windows, length_of(config, subject))
        tokens = np.asarray(induction_batch(MEASURING, 0, *n, subject.cfg.d_vocab))
        found = label_sequences(tokens, "random segments that repeat", subject.cfg.d_vocab)
        found = behind(found, prefix_of(subject))
    else:
        found = source_code(config, subject)
    for line in noticed(found):
        warnings.warn(line, stacklevel=2)
    return chosen(found, config.data.variables)


def noticed(found: Annotated) -> list[str]:
    """How much could not be aligned or labelled, and what stands in several groups, which no folds keep apart."""
    lines, repeated = [], repeated_groups(found)
    if n := len(found.left_out):
        lines.append(f"{found.source}: {n} documents are left out, such as {found.left_out[0]}")
    if n := sum(repeated.values()):
        told = f"{n} of {len(found.tokens)} windows stand in several groups word for word, so folds share them"
        lines.append(f"{found.source}: {told}, such as one of {next(iter(repeated))}")
    return lines


def prompts(config: Config, subject: Subject) -> Annotated:
    """Both sides of contrast pairs, padded on the right."""
    n, length = max(config.data.windows // 2, 1), length_of(config, subject)
    options = {"tokenizer": subject.tokenizer, "d_vocab": subject.cfg.d_vocab, "length": length, "side": "right"}
    pairs = template_pairs(config.data.task, MEASURING, n, **options)
    if (longest := pairs.clean.shape[1]) > (room := positions_of(subject)):
        raise InputError(
            f"data.task = {config.data.task!r}: its prompts have {longest} tokens, the model room for {room}"
        )
    return label_pairs(pairs, f"pairs of the template {config.data.task!r}")


def source_code(config: Config, subject: Subject) -> Annotated:
    """Windows of held-out source code, each behind what the tokenizer puts before a text."""
    text = text_config(config.model)
    documents = held_out_documents(text)
    encoded = subject.tokenizer.backend.encode_batch([d.text for d in documents], add_special_tokens=False)
    tokenised = [Tokenised(d.name, d.text, e.ids, e.offsets) for d, e in zip(documents, encoded, strict=True)]
    source = (
        "Python's standard library"
        if text.path == TextConfig().path and not text.dataset
        else f"data.path = {text.path}"
    )
    found = windows_of(tokenised, config.data.windows, length_of(config, subject), source)
    return behind(found, prefix_of(subject))


def text_config(model: Model) -> TextConfig:
    """The text that a model was grown on, else Python's standard library."""
    if model.path and is_run_directory(model.path):
        return find_run(model.path, model.run).member.part.data
    return TextConfig()


def positions_of(subject: Subject) -> int:
    """How many tokens the model reads at once."""
    return 2**31 - 1 if subject.cfg.positions == "none" else subject.cfg.n_context


def length_of(config: Config, subject: Subject) -> int:
    """Tokens of a window.

    Raises:
      InputError: more than the model has positions for.
    """
    room = positions_of(subject) - len(prefix_of(subject))
    if config.data.length > room:
        raise InputError(f"data.length = {config.data.length}: {subject.name} has room for {room} tokens")
    return config.data.length or min(room, LONGEST)


def behind(data: Annotated, prefix: tuple[int, ...]) -> Annotated:
    """Every window behind some tokens, which have no labels."""
    if not prefix:
        return data
    wide = lambda x, fill: np.concatenate([np.broadcast_to(x.dtype.type(fill), (len(x), len(prefix))), x], axis=1)
    return data._replace(
        tokens=wide(data.tokens, prefix),
        positions=np.arange(len(prefix) + data.tokens.shape[1], dtype=np.int32)[None],
        labels={name: wide(x, np.nan if x.dtype.kind == "f" else NONE) for name, x in data.labels.items()},
    )
