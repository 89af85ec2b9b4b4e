"""Models that were grown here: a finished run's config, its parameters at the last step, and its tokenizer.

A run is a member of a sweep (`sweep.json`) that lies in a finished chunk. Its parameters are read from the last checkpoint,
verified; its tokenizer is made from the text that it was grown on, if that is still the same.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import tokenizers
from ml_collections import ConfigDict

from interp_jax.data import tokenizer_io
from interp_jax.data.corpus_io import load_corpus
from interp_jax.data.paths_io import expanded
from interp_jax.data.text import END, TextConfig
from interp_jax.errors import InputError
from interp_jax.experiments.config import load_experiment
from interp_jax.experiments.loop import digest
from interp_jax.experiments.plan import FILE, thaw
from interp_jax.experiments.sweep import Member, member
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.results.checkpoints import BadCheckpoint, CheckpointStore
from interp_jax.results.run_directory import Finished, finished_members, read_json

MOST_NAMED = 8  # runs in an error
CHUNK = "chunk.json"  # in a chunk's directory, which people may point at


class GrownRun(NamedTuple):
    """A finished run: the directory that a person named, the member, and where it lies."""

    directory: Path
    member: Member
    place: Finished

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.directory.absolute().name} ({title(self.member)})"


def is_run_directory(path: str) -> bool:
    """Whether a path is a directory of runs.

    Raises:
      InputError: it is a chunk inside of one.
    """
    directory = expanded(path)
    if os.path.isfile(directory / CHUNK) and os.path.isfile(directory.parent.parent / FILE):
        raise InputError(f"{path}: is a chunk of {directory.parent.parent}: give that directory")
    return os.path.isfile(directory / FILE)


def find_run(path: str, run: str = "") -> GrownRun:
    """The run of that seed, or whose hash begins so; "" is the only one.

    Raises:
      InputError: no finished run, no transformer, none of that name or several.
    """
    directory = expanded(path)
    finished, plan = finished_members(directory), thaw(directory / FILE)
    done = list({m.hash: m for m in [*plan.members.values(), *first_members(finished)] if m.hash in finished}.values())
    found = [m for m in done if isinstance(getattr(m.part, "model", None), TransformerConfig)]
    if not done:
        raise InputError(f"{path}: none of its {len(plan.members)} runs is finished; to go on: {plan.source}")
    if not found:
        raise InputError(f"{path}: holds runs of {done[0].config.experiment}, whose models are no transformers")
    chosen = choose(found, run)
    if len(chosen) != 1:
        many = (
            f"has {len(found)} runs"
            if not run
            else f"--config.model.run = {run!r} is {len(chosen) or 'none'} of its runs"
        )
        there = ", ".join(f"{title(m)} ({m.hash[:6]})" for m in (chosen or found)[:MOST_NAMED])
        more = ", …" if len(chosen or found) > MOST_NAMED else ""
        raise InputError(f"{path}: {many}: give --config.model.run a seed or hash of {there}{more}")
    return GrownRun(directory, chosen[0], finished[chosen[0].hash])


def first_members(finished: dict[str, Finished]) -> list[Member]:
    """The first member of each chunk, whose config its manifest has: the last sweep of a directory need not name them all."""
    members = [member(ConfigDict(place.manifest["config"])) for place in finished.values() if place.index == 0]
    return [m for m in members if m.hash in finished]


def choose(members: Sequence[Member], run: str) -> list[Member]:
    """Those of that seed, else those whose hash begins so; all for ""."""
    of_seed = [m for m in members if run and str(m.part.seed) == run]
    return of_seed or [m for m in members if m.hash.startswith(run)]


def title(member: Member) -> str:
    """A run for people."""
    return f"seed {member.part.seed}"


def config_of(run: GrownRun) -> TransformerConfig:
    """The configuration of a run's model."""
    return run.member.part.model


def steps_of(run: GrownRun) -> list[int]:
    """Steps of which parameters were kept, increasing; the last is the run's number of steps."""
    chunk = run.place.directory
    kept = CheckpointStore(chunk.checkpoints, chunk.path.name.removesuffix(".old")).steps()
    return [step for step in kept if step < run.member.part.steps] + [run.member.part.steps]


def load_run(run: GrownRun, step: int | None = None) -> Params:
    """The parameters at a step, by default at the last one.

    Raises:
      InputError: a run that diverged, or a checkpoint that is missing or damaged.
    """
    if (at := run.place.manifest["diverged_at"][run.place.index]) >= 0:
        raise InputError(f"{run.name} became non-finite at step {at}: it is no model to look at")
    chunk = run.place.directory
    store = CheckpointStore(chunk.checkpoints, chunk.path.name.removesuffix(".old"))
    step = run.member.part.steps if step is None else step
    n, cfg = len(run.place.manifest["members"]), config_of(run)
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape), x.dtype), shapes)
    try:
        params = store.load_branch(step, "params", like)
    except BadCheckpoint as problem:
        which = "the last" if step == run.member.part.steps else "a"
        raise InputError(
            f"{chunk.checkpoints}: {which} checkpoint, of step {step}, cannot be read ({problem}); grow the model again with"
            " --rerun"
        ) from None
    return jax.tree.map(lambda x: x[run.place.index], params)


def tokenizer_of(run: GrownRun) -> tuple[tokenizer_io.Tokenizer | None, str]:
    """The tokenizer of a run's text, or None and why there is none."""
    part = run.member.part
    if not isinstance(getattr(part, "data", None), TextConfig) or getattr(part, "stream", "text") != "text":
        return None, "it was grown on sequences of ids that stand for no text"
    try:
        shared = load_experiment(run.member.config.experiment).experiment(part).shared
    except InputError as error:
        return None, f"the text that it was grown on cannot be read: {error}"
    if digest(shared) != read_json(run.place.directory.description, "shared")["shared"]:
        return None, "the text that it was grown on has changed since"
    backend = tokenizers.Tokenizer.from_str(load_corpus(part.data, part.model.d_vocab).tokenizer)
    name = f"the tokenizer of {run.directory.name}"
    return tokenizer_io.Tokenizer(backend, name, None, END, None, (), ()), ""
