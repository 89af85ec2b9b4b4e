"""What is looked at: a model without its weights, and what its tokens stand for.

Published models have a `tokenizer.json` beside their weights. Where there is none, tokens are given, and shown, as ids. The
circuit built by hand has the letters of the alphabet for tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase as ALPHABET
from typing import NamedTuple

import numpy as np

from interp_jax.data import tokenizer_io
from interp_jax.errors import InputError
from interp_jax.experiments.inside.config import Config
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.transformer import Params, TransformerConfig
from third_party import hub_io, huggingface

CIRCUIT_CONTEXT = 40
CIRCUIT_PROMPT = "flaskbirchflaskbir"  # ten letters, all different, then the same again
PROMPT = "When Mary and John went to the store, John gave a drink to"  # Wang et al. 2022


class Subject(NamedTuple):
    """A model and its tokens.

    Attributes:
      name: for people.
      cfg: its configuration.
      tokenizer: None where tokens are letters or ids.
      letters: the text of each token, where there is no tokenizer but a text for each; else empty.
    """

    name: str
    cfg: TransformerConfig
    tokenizer: tokenizer_io.Tokenizer | None
    letters: str = ""

    @property
    def title(self) -> str:
        """The last part of its name."""
        return Path(self.name).name


def subject_of(config: Config) -> Subject:
    """The model that a config names; reads no weights.

    Raises:
      InputError: no such model, one that is not known, or whose logits are no sum of what its parts say.
    """
    if not config.model.path:
        return Subject("an induction circuit built by hand", circuit(config)[1], None, ALPHABET)
    directory = model_directory(config)
    cfg = huggingface.configure(hub_io.read_config(directory), str(directory / hub_io.CONFIG))
    check_is_readable(cfg, config.model.path)
    has_tokenizer = (directory / tokenizer_io.FILE).is_file()
    tokenizer = tokenizer_io.load_tokenizer(directory) if has_tokenizer else None
    if tokenizer is not None:
        tokenizer_io.check_vocabulary(tokenizer, cfg.d_vocab)
    return Subject(config.model.path, cfg, tokenizer)


def load_params(config: Config) -> Params:
    """The weights, in float32."""
    return huggingface.load(config.model.path, dtype=np.float32)[0] if config.model.path else circuit(config)[0]


def circuit(config: Config) -> tuple[Params, TransformerConfig]:
    """The induction circuit over the alphabet."""
    return induction_circuit(len(ALPHABET), CIRCUIT_CONTEXT, config.model.sharpness)


def model_directory(config: Config) -> Path:
    """Where config, weights and tokenizer of a published model lie."""
    try:
        path = hub_io.resolve(config.model.path)
    except InputError as error:
        raise InputError(f"--config.model.path: {error}") from error
    return path if path.is_dir() else path.parent


def check_is_readable(cfg: TransformerConfig, name: str) -> None:
    """Raise `InputError` for models on which a logit is no sum of parts."""
    if cfg.head == "none":
        raise InputError(
            f"{name}: this model has no logits (model.head = 'none'), so there is no prediction to explain"
        )
    if cfg.head != "linear" or cfg.placement == "post":
        field = "head" if cfg.head != "linear" else "placement"
        why = "its logits are not a sum of what its parts say, which this report explains"
        raise InputError(f"{name}: model.{field} = {getattr(cfg, field)!r}: {why}")


def prompt_of(config: Config, subject: Subject) -> list[int]:
    """The tokens of the prompt, with what the tokenizer puts before a text; those of `config.tokens` as they are.

    Raises:
      InputError: no tokenizer for a text, an unknown id or letter, fewer than two tokens, or more than the context.
    """
    if config.tokens:
        ids = list(config.tokens)
        if bad := [i for i in ids if not 0 <= i < subject.cfg.d_vocab]:
            raise InputError(f"--config.tokens: {bad[0]} is no token; ids go from 0 to {subject.cfg.d_vocab - 1}")
    elif subject.letters:
        ids = split(config.prompt or CIRCUIT_PROMPT, subject)
    elif subject.tokenizer is None:
        raise InputError(
            f"{subject.name}: no {tokenizer_io.FILE} beside the weights, so a text cannot be read; give the tokens as ids:"
            " --config.tokens='(1, 2, 3)'"
        )
    else:
        ids = [*prefix_of(subject), *split(config.prompt or PROMPT, subject)]
    if len(ids) < 2:
        raise InputError(f"the prompt has {len(ids)} tokens: give at least 2")
    if len(ids) > subject.cfg.n_context and subject.cfg.positions != "none":
        raise InputError(f"the prompt has {len(ids)} tokens, more than the model's context of {subject.cfg.n_context}")
    return ids


def prefix_of(subject: Subject) -> tuple[int, ...]:
    """What the tokenizer puts before every text, such as a BOS."""
    return subject.tokenizer.prefix if subject.tokenizer else ()


def token_of(text: str, option: str, subject: Subject) -> int:
    """The one token that `text` is, -1 for no text; an id where tokens are ids.

    Raises:
      InputError: it is none, or several, which are then named.
    """
    if not text:
        return -1
    if not subject.letters and subject.tokenizer is None:
        if not text.isdecimal() or int(text) >= subject.cfg.d_vocab:
            last = subject.cfg.d_vocab - 1
            raise InputError(f"--config.{option} = {text!r}: without a tokenizer it is an id from 0 to {last}")
        return int(text)
    ids = split(text, subject)
    if len(ids) != 1:
        spaced = f" {text}"
        hint = f"; did you mean {spaced!r}, which is one?" if can_be_one(spaced, subject) else ""
        parts = ", ".join(map(repr, names_of(ids, subject)))
        raise InputError(f"--config.{option} = {text!r} is not one token but {len(ids)}: {parts}{hint}")
    return ids[0]


def can_be_one(text: str, subject: Subject) -> bool:
    """Whether a text is one token of the tokenizer."""
    return subject.tokenizer is not None and len(split(text, subject)) == 1


def split(text: str, subject: Subject) -> list[int]:
    """The ids of a text, without special tokens around it."""
    if subject.tokenizer is not None:
        return list(subject.tokenizer.backend.encode(text, add_special_tokens=False).ids)
    if unknown := [c for c in text if c not in subject.letters]:
        raise InputError(f"{unknown[0]!r} is no token of {subject.name}: its tokens are the letters {subject.letters}")
    return [subject.letters.index(c) for c in text]


def names_of(ids: Sequence[int] | np.ndarray, subject: Subject) -> list[str]:
    """The text of each token; ids as they are where they stand for none."""
    if subject.tokenizer is not None:
        return tokenizer_io.pieces(subject.tokenizer, np.asarray(ids, np.int32)[None])[0]
    return [subject.letters[i] if subject.letters else str(i) for i in map(int, ids)]
