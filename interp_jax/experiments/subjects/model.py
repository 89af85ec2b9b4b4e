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
from interp_jax.experiments.subjects.grown import config_of, find_run, is_run_directory, load_run, tokenizer_of
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
      run: of a directory with several runs, which: its seed, or the beginning of its hash.
      sharpness: of the circuit: the score of a match.
    """

    path: str = ""
    run: str = ""
    sharpness: float = 8.0

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if not self.sharpness > 0:
            raise InputError(f"model.sharpness = {self.sharpness}: must be above 0")
        for name in ("path", "run"):
            check_text(f"model.{name}", getattr(self, name))


class Subject(NamedTuple):
    """A model, without its weights, and its tokens.

    Attributes:
      name: for people.
      cfg: its configuration.
      tokenizer: None where tokens are letters or ids.
      letters: the text of each token, where there is no tokenizer but a text for each; else empty.
      lacks: why there is no tokenizer, where there is none.
    """

    name: str
    cfg: TransformerConfig
    tokenizer: tokenizer_io.Tokenizer | None
    letters: str = ""
    lacks: str = ""

    @property
    def title(self) -> str:
        """The last part of its name."""
        return Path(self.name).name


def subject_of(model: Model) -> Subject:
    """The model that a config names; reads no weights.

    Raises:
      InputError: no such model, or one that is not known.
    """
    if not model.path:
        made_by_hand = "its tokens are letters, made by hand"
        return Subject("an induction circuit built by hand", circuit(model)[1], None, ALPHABET, made_by_hand)
    if is_run_directory(model.path):
        run = find_run(model.path, model.run)
        tokenizer, lacks = tokenizer_of(run)
        return Subject(run.name, config_of(run), tokenizer, lacks=lacks)
    if model.run:
        raise InputError(
            f"--config.model.run = {model.run!r}: {model.path} is no directory of runs, which has a sweep.json"
        )
    directory = model_directory(model)
    cfg = huggingface.configure(hub_io.read_config(directory), str(directory / hub_io.CONFIG))
    if not os.path.lexists(directory / tokenizer_io.FILE):
        return Subject(model.path, cfg, None, lacks=f"no {tokenizer_io.FILE} beside the weights")
    tokenizer = tokenizer_io.load_tokenizer(directory)
    tokenizer_io.check_vocabulary(tokenizer, cfg.d_vocab)
    return Subject(model.path, cfg, tokenizer)


def load_params(model: Model) -> Params:
    """The weights, in float32."""
    if not model.path:
        return circuit(model)[0]
    if is_run_directory(model.path):
        return load_run(find_run(model.path, model.run))
    return huggingface.load(model.path, dtype=np.float32)[0]


def circuit(model: Model) -> tuple[Params, TransformerConfig]:
    """The induction circuit over the alphabet."""
    return induction_circuit(len(ALPHABET), CIRCUIT_CONTEXT, model.sharpness)


def model_directory(model: Model) -> Path:
    """Where config, weights and tokenizer of a published model lie."""
    try:
        path = hub_io.resolve(model.path)
    except InputError as error:
        raise InputError(f"--config.model.path: {error}") from error
    return hub_io.config_file(path).parent


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
