"""A model by its path, and what its tokens stand for.

    ""                               the induction circuit built by hand; its tokens are letters
    a directory of weights, org/name      published weights in Hugging Face format, with their `tokenizer.json` if there is one
    a directory of runs              a finished run of an experiment that grows transformers, as it was at its last step

Where there is no tokenizer, tokens are given, and shown, as ids.
"""

import os
from pathlib import Path
from string import ascii_lowercase as ALPHABET
from typing import NamedTuple

import numpy as np

from interp_jax.data import tokenizer_io
from interp_jax.errors import InputError
from interp_jax.experiments.subjects.grown import (
    GrownRun,
    config_of,
    find_run,
    is_run_directory,
    load_run,
    tokenizer_of,
)
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.parts import part
from third_party import hub_io, huggingface

CIRCUIT_CONTEXT = 40


@part
class Model:
    """The model.

    Attributes:
      path: a directory of published weights in Hugging Face format, with its tokenizer, or the id of one on the hub; or the
        directory of a finished `configs/grow.py`; "" is the induction circuit built by hand.
      revision: of an id on the hub: a branch, tag or commit, such as a training checkpoint's ("step3000"); "" is the
        main branch.
      run: of a directory with several runs, which: its seed, or the beginning of its hash.
      sharpness: of the circuit: the score of a match.
    """

    path: str = ""
    revision: str = ""
    run: str = ""
    sharpness: float = 8.0

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if not self.sharpness > 0:
            raise InputError(f"model.sharpness = {self.sharpness}: must be above 0")
        for name in ("path", "revision", "run"):
            check_text(f"model.{name}", getattr(self, name))
        if self.revision and not self.path:
            raise InputError(f"model.revision = {self.revision!r}: needs the id of a model on the hub as model.path")


class Subject(NamedTuple):
    """A model, without its weights, and its tokens.

    Attributes:
      name: for people.
      cfg: its configuration.
      tokenizer: None where tokens are letters or ids.
      letters: the text of each token, where there is no tokenizer but a text for each; else empty.
      lacks: why there is no tokenizer, where there is none.
      revision: the one that was asked for; its name ends with it.
    """

    name: str
    cfg: TransformerConfig
    tokenizer: tokenizer_io.Tokenizer | None
    letters: str = ""
    lacks: str = ""
    revision: str = ""

    @property
    def title(self) -> str:
        """The last part of its name."""
        revision = at(self.revision)
        return Path(self.name.removesuffix(revision)).name + revision


def subject_of(model: Model) -> Subject:
    """The model that a config names; reads no weights.

    Raises:
      InputError: no such model, or one that is not known.
    """
    if not model.path:
        made_by_hand = "its tokens are letters, made by hand"
        return Subject("an induction circuit built by hand", circuit(model)[1], None, ALPHABET, made_by_hand)
    if is_run_directory(model.path):
        run = grown_run(model)
        tokenizer, lacks = tokenizer_of(run)
        return Subject(run.name, config_of(run), tokenizer, lacks=lacks)
    if model.run:
        raise InputError(
            f"--config.model.run = {model.run!r}: {model.path} is no directory of runs, which has a sweep.json"
        )
    directory = hub_io.config_file(published_path(model)).parent
    cfg = huggingface.configure(hub_io.read_config(directory), str(directory / hub_io.CONFIG))
    name = model.path + at(model.revision)
    if not os.path.lexists(directory / tokenizer_io.FILE):
        lacks = f"no {tokenizer_io.FILE} beside the weights"
        return Subject(name, cfg, None, lacks=lacks, revision=model.revision)
    tokenizer = tokenizer_io.load_tokenizer(directory)
    tokenizer_io.check_vocabulary(tokenizer, cfg.d_vocab)
    return Subject(name, cfg, tokenizer, revision=model.revision)


def load_params(model: Model) -> Params:
    """The weights, in float32."""
    if not model.path:
        return circuit(model)[0]
    if is_run_directory(model.path):
        return load_run(grown_run(model))
    return huggingface.load(published_path(model), dtype=np.float32)[0]


def circuit(model: Model) -> tuple[Params, TransformerConfig]:
    """The induction circuit over the alphabet."""
    return induction_circuit(len(ALPHABET), CIRCUIT_CONTEXT, model.sharpness)


def published_path(model: Model) -> Path:
    """Where a published model lies: a directory, or a file of weights with its config beside it.

    Raises:
      InputError: no such model or revision; or a revision of what lies on this machine.
    """
    try:
        return hub_io.resolve(model.path, model.revision or None)
    except InputError as error:
        options = "--config.model.path with --config.model.revision" if model.revision else "--config.model.path"
        raise InputError(f"{options}: {error}") from error


def grown_run(model: Model) -> GrownRun:
    """The run that is meant, of a directory of runs.

    Raises:
      InputError: none or several; or a revision, which runs have not.
    """
    if model.revision:
        raise InputError(
            f"--config.model.revision = {model.revision!r}: {model.path} is a directory of runs, which has no revisions:"
            " choose with --config.model.run"
        )
    return find_run(model.path, model.run)


def at(revision: str) -> str:
    """What is put behind a model's name."""
    return f" at {revision}" if revision else ""


def check_has_logits(cfg: TransformerConfig, name: str) -> None:
    """Raise `InputError` for a model that predicts nothing."""
    if cfg.head == "none":
        raise InputError(
            f"{name}: this model has no logits (model.head = 'none'), so there is no prediction to explain"
        )


def check_text(option: str, text: str) -> None:
    """Raise `InputError` for lone surrogates, which no report can hold: so come bytes on a command line that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{option} = {text!r}: must be characters that UTF-8 can write") from None
