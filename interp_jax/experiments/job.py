"""A job: everything between a config and its report, on this machine."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from interp_jax.atomic_io import ensure_writable, write_json, write_text
from interp_jax.errors import InputError
from interp_jax.experiments.collect import collect
from interp_jax.experiments.config import build_engine, load_config, load_experiment, override, parse_value
from interp_jax.experiments.engine import prepare
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.plan import FILE, Plan, freeze, is_done, make_plan, thaw
from interp_jax.experiments.sweep import Member, expand
from interp_jax.experiments.worker import built, run_shard
from interp_jax.results.report import Block, Page, Section, TableBlock, write_report
from interp_jax.results.run_directory import Finished, chunk_directory, finished_members, read_json
from interp_jax.results.tables import Table
from interp_jax.train.run import ALIVE


def run_job(
    reference: str,
    overrides: Mapping[str, str],
    sweeps: Sequence[str] | None,
    rerun: bool,
    command: str,
    console: Console,
) -> Path:
    """Run a config and return the path of its report.

    Args:
      reference: "configs/x.py:arg".
      overrides: {"section.key": text}.
      sweeps: names of sweeps, "none" for one run; None for the config file's default.
      rerun: do again what is finished.
      command: the words that a person typed, for the report.
      console: where to tell what is going on.
    """
    base, module, name = load_config(reference)
    base = override(base, {key: parse_value(text) for key, text in overrides.items()})
    chosen = None if sweeps is None else [s for s in sweeps if s != "none"]
    members = expand(base, module, chosen, reference.partition(":")[2], overrides.keys())
    directory = output_directory(base, name)
    with made(directory):
        prepare(build_engine(base)[0])
        previous = previous_plan(directory)
        finished = {} if rerun else say_skipped(members, finished_members(directory), console)
        redo = redo_token(previous, directory) if rerun else ""
        plan = make_plan(base.experiment, members, command, finished, previous, redo)
        for chunk in plan.chunks:  # what they read must be there before anything is written
            first = plan.members[chunk.members[0]]
            built(first.config.experiment, first.part)
        freeze(plan, directory)
    if plan.chunks:
        n = sum(len(c.members) for c in plan.chunks)
        console.print(f"{n} runs in {len(plan.chunks)} chunks → {directory}", highlight=False)
    run_shard(directory / FILE, 0, 1, console)
    groups = collect(members, directory)
    if sum(len(g.hashes) for g in groups) < len(members):
        raise InputError(f"another worker still runs a part of {directory}: start the command again when it is done")
    return publish(load_experiment(base.experiment).report(groups), groups, directory, command)


@contextlib.contextmanager
def made(directory: Path) -> Iterator[None]:
    """Makes a directory that can be written; what was made of its path goes again if the block fails and it is empty."""
    missing = [path for path in (directory, *directory.parents) if not os.path.lexists(path)]
    try:
        ensure_writable(directory)
        yield
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def publish(page: Page, groups: Sequence[GroupResult], directory: Path, command: str) -> Path:
    """Write a page with what every report ends with: runs that diverged, the command, config and manifest."""
    for name, content in page.data.items():
        write_json(directory / name, content)
    for name, content in page.files.items():
        write_text(directory / name, content)
    manifest = read_json(Path(groups[0].directories[0]) / "manifest.json")
    return write_report(directory, page.title, page.summary, [*page.blocks, *diverged(groups)], command, manifest)


def diverged(groups: Sequence[GroupResult]) -> list[Block]:
    """A section that lists the runs that became non-finite, if any did."""
    rows = [(g.hashes[i], int(g.diverged_at[i])) for g in groups for i in np.flatnonzero(g.diverged_at != ALIVE)]
    if not rows:
        return []
    table = Table(("run", "last finite step"), rows, "What is shown of these runs is their last finite state.")
    return [
        Section("Runs that diverged", "Their loss, gradient or parameters became infinite or NaN."),
        TableBlock(table),
    ]


def output_directory(config: ConfigDict, name: str) -> Path:
    """Where the results of a config go: as it says, else under $INTERP_JAX_RUNS, else under runs/ in this directory."""
    runs = os.environ.get("INTERP_JAX_RUNS", "runs")
    return Path(config.output.directory or Path(runs) / name).absolute()


def say_skipped(members: Sequence[Member], finished: dict[str, Finished], console: Console) -> dict[str, Finished]:
    """The members that are finished; says which commit made them."""
    done = {m.hash: finished[m.hash] for m in members if m.hash in finished}
    commits = sorted({((f.manifest["git"] or {}).get("commit") or "unknown")[:10] for f in done.values()})
    if done:
        console.print(
            f"{len(done)} of {len(members)} runs are finished (by commit {', '.join(commits)}); --rerun does them again"
        )
    return done


def previous_plan(directory: Path) -> Plan | None:
    """The plan frozen in the directory before, if any."""
    return thaw(directory / FILE) if (directory / FILE).exists() else None


def redo_token(previous: Plan | None, directory: Path) -> str:
    """The token of a rerun that was interrupted, which then goes on, or a new one."""
    if previous is not None and previous.redo:
        if not all(is_done(previous, chunk_directory(directory, chunk.id)) for chunk in previous.chunks):
            return previous.redo
    return secrets.token_hex(4)
