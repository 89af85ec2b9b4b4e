"""The contrast pairs of a run: from a template or a file, with what the positions of its plots are.

A column means the same in all pairs where one frame of a text is used, or where all prompts of a file are equally long with
their places in the same columns. Else, as with random tokens, positions are the named places, each pair's own columns.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from interp_jax.data import tokenizer_io
from interp_jax.data.contrast.jsonl_io import read_pairs
from interp_jax.data.contrast.pairs import Pairs, check_pairs, select
from interp_jax.data.contrast.templates import TEMPLATES, template_pairs
from interp_jax.errors import InputError
from interp_jax.experiments.patching.config import Config, Task
from interp_jax.experiments.patching.corruption import WITHOUT_PROMPTS
from interp_jax.experiments.subjects.model import Subject
from interp_jax.experiments.subjects.tokens import names_of, prefix_of
from interp_jax.models.bounds import check_length

SHORTEST = 5  # tokens of a prompt of "induction"


class Places(NamedTuple):
    """What stands along a position axis.

    Attributes:
      columns: [N B], the column of each in each pair.
      names: of named places; empty where they are all the columns in order.
    """

    columns: Int[np.ndarray, "N B"]
    names: tuple[str, ...]


def pairs_of(config: Config, subject: Subject, seed: int, of_file: Pairs | None = None) -> Pairs:
    """The pairs of a seed, whose corrupted side is the template's or the file's own; of a file, its first ones, for every
    seed the same.

    Raises:
      InputError: a task that the model's tokens cannot state, prompts beyond its context, a file that cannot be read.
    """
    task = config.task
    way = None if task.corruption in ("", *WITHOUT_PROMPTS) else task.corruption
    if task.file:
        found = read_file(task, subject) if of_file is None else of_file
    elif TEMPLATES[task.name].write is None:
        bos = True if prefix_of(subject) and subject.tokenizer.bos is not None else None
        found = template_pairs(
            task.name,
            seed,
            task.pairs,
            corruption=way,
            tokenizer=subject.tokenizer,
            d_vocab=subject.cfg.d_vocab,
            length=induction_length(task, subject, bool(bos)),
            bos=bos,
        )
    else:
        frame = None if task.frame < 0 else task.frame
        tokenizer = tokenizer_for(f"--config.task.name={task.name}", subject)
        found = template_pairs(task.name, seed, task.pairs, corruption=way, tokenizer=tokenizer, frame=frame)
    check_pairs(found, subject.cfg.d_vocab)
    check_length(int(np.asarray(found.positions).max()) + 1, subject.cfg)
    return found


def read_file(task: Task, subject: Subject) -> Pairs:
    """The first pairs of a file."""
    found = read_pairs(task.file, subject.tokenizer)
    if len(found.clean) < 2:
        raise InputError(f"{task.file}: holds one pair; give at least 2, or there is no interval")
    return jax.tree.map(np.asarray, select(found, np.arange(min(task.pairs, len(found.clean)))))


def tokenizer_for(option: str, subject: Subject) -> tokenizer_io.Tokenizer:
    """The tokenizer that a task of text needs."""
    if subject.tokenizer is None:
        raise InputError(
            f"{option} is text, and {subject.name} has no tokenizer ({subject.lacks}): choose --config.task.name=induction, or"
            " give pairs of ids in --config.task.file"
        )
    return subject.tokenizer


def induction_length(task: Task, subject: Subject, begins: bool) -> int:
    """Tokens of a prompt: as asked for, or as many as the model has room and different tokens for."""
    cfg = subject.cfg
    room = task.length if cfg.positions == "none" else cfg.n_context
    most = min(task.length, room, cfg.d_vocab)  # all tokens of a segment differ, and 0 is none of them
    if most < SHORTEST + begins:
        raise InputError(
            f"task.length = {task.length}: a prompt of 'induction' has at least {SHORTEST + begins} tokens, and"
            f" {subject.name} has room for {room} of {cfg.d_vocab}"
        )
    return most


def are_aligned(config: Config, pairs: Pairs) -> bool:
    """Whether a column means the same in all pairs."""
    if not config.task.file:
        return TEMPLATES[config.task.name].write is not None and config.task.frame >= 0
    fixed = all(np.ptp(np.asarray(columns)) == 0 for columns in pairs.places.values())
    return bool(fixed and (np.asarray(pairs.positions) >= 0).all())


def places_of(config: Config, pairs: Pairs) -> Places:
    """The positions of the plots."""
    n_pairs, n_columns = pairs.clean.shape
    if are_aligned(config, pairs):
        return Places(np.tile(np.arange(n_columns)[:, None], (1, n_pairs)), ())
    order = sorted(pairs.places, key=lambda name: float(np.mean(np.asarray(pairs.places[name]))))
    return Places(np.stack([np.asarray(pairs.places[name]) for name in order]), tuple(order))


def labels_of(pairs: Pairs, places: Places, subject: Subject) -> list[str]:
    """Positions for people: a place's name, else the token that all clean prompts have there, else the column."""
    if places.names:
        return list(places.names)
    clean, named = np.asarray(pairs.clean), {}
    for name, columns in pairs.places.items():
        named.setdefault(int(np.asarray(columns)[0]), name)
    texts = names_of(clean[0], subject)
    labels = []
    for column, text in enumerate(texts):
        same = bool((clean[:, column] == clean[0, column]).all())
        name = named.get(column)
        labels.append(f"{text} ({name})" if same and name else text if same else name or f"#{column}")
    return labels
