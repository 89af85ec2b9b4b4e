"""The frozen plan of a sweep: which members there are, and the chunks in which they run.

    members -> groups (equal static fields: one compiled program) -> chunks (at most `engine.chunk` members)
            -> waves (chunks of groups that read one stream: they go on in step, at most `engine.chunk` members together)

`sweep.json` holds the plan with a digest. Any machine resumes a frozen plan. When a sweep is widened, unfinished chunks of
the old plan stay as they are, so that nothing half done is lost, and new chunks form from missing members only.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from interp_jax.atomic_io import write_json
from interp_jax.errors import InputError
from interp_jax.experiments.built import stream_of
from interp_jax.experiments.frozen import FILE, Chunk, digest, read_frozen
from interp_jax.experiments.sweep import Member, member
from interp_jax.results.manifest import git_state

ROUNDING = 1e-6  # of sums of shares


class Plan(NamedTuple):
    """A sweep, expanded and cut into chunks.

    Attributes:
      experiment: the module whose report the sweep ends with; its members may be of others.
      source: the command's words that made it, for the report.
      members: {hash: Member}, in the sweep's order.
      chunks: those still to run when the plan was frozen.
      redo: where finished chunks are to be done again, a token that their new manifests will carry; else empty.
      digest: of the file that it was frozen in; empty before that.
    """

    experiment: str
    source: str
    members: dict[str, Member]
    chunks: tuple[Chunk, ...]
    redo: str = ""
    digest: str = ""


def make_plan(
    experiment: str,
    members: Sequence[Member],
    source: str,
    finished: Collection[str],
    previous: Plan | None = None,
    redo: str = "",
    fits: Callable[[Sequence[Member]], int] | None = None,
) -> Plan:
    """The plan that runs the members which are not finished, at most `engine.chunk` in a chunk and as many as `fits` says.

    Raises:
      InputError: the directory's previous plan is of another experiment.
    """
    by_hash = {m.hash: m for m in members}
    if previous is not None and previous.experiment != experiment:
        raise InputError(
            f"the output directory holds results of {previous.experiment}, not of {experiment}: "
            "choose another --config.output.directory"
        )
    missing = set(by_hash) - set(finished)
    kept = [c for c in (previous.chunks if previous else ()) if missing.issuperset(c.members)]
    missing -= {h for chunk in kept for h in chunk.members}
    most = members[0].config.engine.chunk
    new: list[tuple[Chunk, float, Any]] = []
    for group in groups([by_hash[h] for h in by_hash if h in missing]):
        size = most if fits is None else min(most, fits(group))
        new += [(chunk, len(chunk.members) / size, stream_of(group[0])) for chunk in cut(group, size)]
    return Plan(
        experiment, source, by_hash, (*kept, *in_waves(new, max((c.wave for c in kept), default=-1) + 1)), redo
    )


def groups(members: Sequence[Member]) -> list[list[Member]]:
    """Members by the tree structure of their part: equal static fields, one compiled program."""
    found: dict[Any, list[Member]] = {}
    for one in members:
        found.setdefault(jax.tree.structure(one.part), []).append(one)
    return list(found.values())


def cut(group: Sequence[Member], size: int) -> list[Chunk]:
    """A group as chunks of at most `size` members."""
    hashes = [m.hash for m in group]
    return [make_chunk(hashes[i : i + size]) for i in range(0, len(hashes), size)]


def in_waves(chunks: Sequence[tuple[Chunk, float, Any]], first: int) -> list[Chunk]:
    """Chunks with their waves, counted from `first`; chunks of one stream are together as long as memory has room.

    Args:
      chunks: each with its share of what memory holds of its group, and what tells its stream apart, or None.
      first: number of the first wave.
    """
    numbered: list[Chunk] = []
    filled: dict[
        Any, tuple[int, float]
    ] = {}  # the wave of each stream that may have room, and how much of it is taken
    for chunk, share, stream in chunks:
        wave, taken = filled.get(stream, (first, 1.0)) if stream is not None else (first, 1.0)
        if taken + share > 1.0 + ROUNDING:
            wave, taken, first = first, 0.0, first + 1
        filled[stream] = (wave, taken + share)
        numbered.append(chunk._replace(wave=wave))
    return numbered


def make_chunk(hashes: Sequence[str]) -> Chunk:
    """A chunk, named by its members."""
    return Chunk(digest(list(hashes)), tuple(hashes))


def freeze(plan: Plan, directory: Path) -> Path:
    """Write the plan to `<directory>/sweep.json`."""
    content = {
        "experiment": plan.experiment,
        "source": plan.source,
        "redo": plan.redo,
        "git": git_state(),
        "members": {h: m.config.to_dict() for h, m in plan.members.items()},
        "chunks": [chunk._asdict() for chunk in plan.chunks],
    }
    write_json(directory / FILE, {**content, "digest": digest(content)})
    return directory / FILE


def thaw(path: Path) -> Plan:
    """The plan in a `sweep.json`.

    Raises:
      InputError: no such file, damaged, or edited after it was frozen.
    """
    frozen = read_frozen(path)
    members = [member(ConfigDict(config)) for config in frozen.configs.values()]
    if stale := [m for m, h in zip(members, frozen.configs, strict=True) if m.hash != h]:
        raise InputError(
            f"{path} was frozen by another version of the project ({len(stale)} hashes differ): start it again"
        )
    by_hash = {m.hash: m for m in members}
    return Plan(frozen.experiment, frozen.source, by_hash, frozen.chunks, frozen.redo, frozen.digest)


def total_steps(plan: Plan, chunk: Chunk) -> int:
    """Steps of a chunk's runs."""
    return plan.members[chunk.members[0]].part.steps
