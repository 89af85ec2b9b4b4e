"""A dictionary that was trained here: which member of which run, its parameters, and the text that it is looked at on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from interp_jax.data.paths_io import expanded
from interp_jax.data.probing.source_labels import Tokenised
from interp_jax.dictionaries.parameters import Params
from interp_jax.errors import InputError
from interp_jax.experiments.dictionaries.config import Config as Trained
from interp_jax.experiments.dictionaries.kept import load_chunk
from interp_jax.experiments.features.config import Source
from interp_jax.experiments.plan import FILE, thaw
from interp_jax.experiments.subjects.grown import first_members, is_run_directory
from interp_jax.experiments.subjects.model import subject_of
from interp_jax.experiments.subjects.text import documents_of, marks
from interp_jax.experiments.subjects.text import text_of as model_text
from interp_jax.experiments.subjects.tokens import names_of
from interp_jax.experiments.sweep import Member
from interp_jax.results.run_directory import Finished, finished_members

MOST_NAMED = 8  # members in an error


class Found(NamedTuple):
    """A dictionary: its member of a run, and where it lies."""

    member: Member
    place: Finished
    trained: Trained

    @property
    def name(self) -> str:
        """For people."""
        return title(self.trained)

    def place_of(self, piece: int) -> tuple[str, str, int]:
        """What is read and what is said, and the layer of both: of a piece."""
        return self.trained.read[piece % len(self.trained.read)]

    def model_of(self, piece: int) -> str:
        """Where the model lies that a piece is of: all places of a first one come before those of the second."""
        return (self.trained.model, self.trained.other)[piece // len(self.trained.read)].path


class Text(NamedTuple):
    """Held-out tokens, what each token of the vocabulary is, and what was read.

    Attributes:
      tokens: of all documents, one after the other.
      names: by token.
      title: what was read, for people.
      documents: with the characters of each token; none where the text has none.
      ends: tokens that end each of them.
      prefix: tokens before every window.
    """

    tokens: Int[np.ndarray, " N"]
    names: list[str]
    title: str
    documents: Sequence[Tokenised] = ()
    ends: int = 1
    prefix: tuple[int, ...] = ()


def find(source: Source) -> Found:
    """The dictionary that is meant.

    Raises:
      InputError: no directory of runs, none that is finished, none of that name or several.
    """
    path = source.path
    if not path or not is_run_directory(path):
        raise InputError(f"dictionary.path = {path!r}: give the directory of a finished configs/dictionaries.py")
    directory = expanded(path)
    finished, plan = finished_members(directory), thaw(directory / FILE)
    every = {m.hash: m for m in [*plan.members.values(), *first_members(finished)] if m.hash in finished}
    if not every:
        raise InputError(f"{path}: none of its {len(plan.members)} runs is finished; to go on: {plan.source}")
    members = [m for m in every.values() if isinstance(m.part, Trained)]
    if not members:
        (one, *_) = every.values()
        raise InputError(f"{path}: holds runs of {one.config.experiment}, which are no dictionaries")
    chosen = choose(members, source.member)
    if len(chosen) != 1:
        wrong = f"dictionary.member = {source.member!r} is {len(chosen) or 'none'} of its {len(members)} dictionaries"
        there = ", ".join(f"{title(m.part)!r} ({m.hash[:6]})" for m in (chosen or members)[:MOST_NAMED])
        more = ", …" if len(chosen or members) > MOST_NAMED else ""
        raise InputError(f"{path}: {wrong}: give --config.dictionary.member words or a hash of {there}{more}")
    (one,) = chosen
    place = finished[one.hash]
    if (at := place.manifest["diverged_at"][place.index]) >= 0:
        raise InputError(f"{path}: {title(one.part)} became non-finite at step {at}: its features mean nothing")
    return Found(one, place, moved(one.part, source))


def moved(trained: Trained, source: Source) -> Trained:
    """With its models where they lie now.

    Raises:
      InputError: another model of a dictionary that reads one.
    """
    if source.other and not trained.other.path:
        raise InputError(f"dictionary.other = {source.other!r}: the dictionary reads one model")
    now = {name: path for name in ("model", "other") if (path := getattr(source, name))}
    return replace(trained, **{name: replace(getattr(trained, name), path=path) for name, path in now.items()})


def title(trained: Trained) -> str:
    """A dictionary for people: its kind, what it was told of its sparsity, its seed."""
    cfg = trained.dictionary
    if cfg.is_by_k:
        told = f"k={cfg.k}"
    elif cfg.control != "none" or cfg.has_target:
        told = f"target={cfg.target:g}"
    else:
        told = f"sparsity={cfg.sparsity:g}"
    (site, _, layer), *_ = trained.read
    where = f"layer={layer} " if len(trained.layers) > 1 else ""
    where += f"site={site} " if len(trained.sites) > 1 else ""
    return (
        f"{cfg.kind} {told} width={cfg.width or cfg.n_features} {where if cfg.pieces == 1 else ''}seed={trained.seed}"
    )


def choose(members: Sequence[Member], name: str) -> list[Member]:
    """Those of whose titles these are words, else those whose hash begins so; all for ""."""
    titled = [m for m in members if set(name.split()) <= set(title(m.part).split())]
    return titled or [m for m in members if m.hash.startswith(name)]


def load(found: Found) -> Params:
    """The parameters at the last step.

    Raises:
      InputError: a checkpoint that is missing or damaged.
    """
    n, own = len(found.place.manifest["members"]), found.trained
    params = load_chunk(found.place.directory, own.dictionary, own.steps, n)
    return jax.tree.map(lambda x: x[found.place.index], params)


def text_of(trained: Trained) -> Text:
    """The held-out side of the text that a model was grown on, or that the dictionary was trained on."""
    subject, text = subject_of(trained.model), model_text("model", trained.model, trained.data)
    names = names_of(range(subject.cfg.d_vocab), subject)
    end = marks(trained.model).end
    documents = documents_of(trained.model, trained.data)
    return Text(text.held_out, names, text.source, documents, 0 if end is None else 1, text.prefix)
