"""A job: everything between a config and its report, on this machine."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console

from interp_jax.atomic_io import ensure_writable
from interp_jax.errors import InputError
from interp_jax.experiments.built import built
from interp_jax.experiments.config import build_engine, load_config, override, parse_value
from interp_jax.experiments.engine import prepare
from interp_jax.experiments.frozen import FILE, is_done
from interp_jax.experiments.plan import Plan, freeze, make_plan, thaw
from interp_jax.experiments.publish import publish_sweep, refuse_unfinished
from interp_jax.experiments.sweep import Member, expand
from interp_jax.experiments.waves import run_chunks
from interp_jax.results.run_directory import Finished, chunk_directory, finished_members


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
    plan, directory = freeze_job(reference, overrides, sweeps, rerun, command, console)
    if plan.chunks:
        n = sum(len(c.members) for c in plan.chunks)
        console.print(f"{n} runs in {len(plan.chunks)} chunks → {directory}", highlight=False)
    try:
        run_chunks(plan, plan.chunks, directory, console)
    except Exception:
        publish_rest(plan, directory, console)
        raise
    published = publish_sweep(plan, directory)
    refuse_unfinished(published.states, directory)
    return published.report


def freeze_job(
    reference: str,
    overrides: Mapping[str, str],
    sweeps: Sequence[str] | None,
    rerun: bool,
    command: str,
    console: Console,
    cut_to_fit: Callable[[Sequence[Member]], int] | None = None,
) -> tuple[Plan, Path]:
    """Expand a config and freeze its plan in its directory, without running anything; arguments are those of `run_job`.

    `cut_to_fit` says of a group's members how many may run together, where memory allows less than `engine.chunk`.

    Raises:
      InputError: bad input, or the directory is in use for another sweep.
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
        plan = make_plan(base.experiment, members, command, finished, previous, redo, cut_to_fit)
        if previous is not None:
            refuse_in_use(previous, plan, directory)
        for chunk in plan.chunks:  # what they read must be there before anything is written
            first = plan.members[chunk.members[0]]
            built(first.config.experiment, first.part)
        return thaw(freeze(plan, directory)), directory


def publish_rest(plan: Plan, directory: Path, console: Console) -> None:
    """The report of what is finished of a sweep in which something failed."""
    with contextlib.suppress(Exception):  # what failed first is what a person must hear of
        if report := publish_sweep(plan, directory).report:
            console.print(f"report of what did finish: {report}", highlight=False)


def refuse_in_use(previous: Plan, plan: Plan, directory: Path) -> None:
    """Raise `InputError` where a worker runs a chunk that the directory's new plan does not have."""
    for name in {chunk.id for chunk in previous.chunks} - {chunk.id for chunk in plan.chunks}:
        place = chunk_directory(directory, name)
        if not is_done(previous.redo, place) and (holder := place.holder()):
            raise InputError(
                f"{directory} holds another sweep, which {holder} is running: wait for it, "
                "or choose another --config.output.directory"
            )


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
        if not all(is_done(previous.redo, chunk_directory(directory, chunk.id)) for chunk in previous.chunks):
            return previous.redo
    return secrets.token_hex(4)
