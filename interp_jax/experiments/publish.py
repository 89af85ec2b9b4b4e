"""From a directory of results to the report: whatever is finished is shown, whatever is not is listed."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from interp_jax.atomic_io import write_json, write_text
from interp_jax.errors import InputError
from interp_jax.experiments.collect import collect
from interp_jax.experiments.config import load_experiment
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.failures import one_line
from interp_jax.experiments.frozen import FrozenSweep, read_frozen
from interp_jax.experiments.overview import overview
from interp_jax.experiments.plan import Plan
from interp_jax.experiments.progress import ChunkProgress, progress, run_again, unfinished
from interp_jax.results.blocks import Block, Code, Page, Section, TableBlock
from interp_jax.results.report import write_report
from interp_jax.results.run_directory import read_json
from interp_jax.results.tables import Table
from interp_jax.train.run import ALIVE

MOST_ROWS = 100  # of a table of what is missing


class Published(NamedTuple):
    """A report's path (None where nothing is finished) and the state of each chunk."""

    report: Path | None
    states: list[ChunkProgress]


def publish_sweep(plan: Plan, directory: Path) -> Published:
    """Write the report of what is finished of a sweep."""
    sweep = read_frozen(directory)
    states = progress(sweep)
    groups = collect(list(plan.members.values()), directory)
    if not groups:
        return Published(None, states)
    page = page_of(plan, groups, bool(unfinished(states)))
    blocks = [*overview(sweep.configs, groups), *failure_blocks(states, sweep)]
    return Published(publish(page, groups, directory, plan.source, blocks), states)


def failure_blocks(states: Sequence[ChunkProgress], sweep: FrozenSweep) -> list[Block]:
    """A section that lists what has no results, and the commands that run just that again."""
    left = unfinished(states)
    if not left:
        return []
    rows = [(s.chunk.id, len(s.chunk.members), s.step, s.state, s.note or "–") for s in left[:MOST_ROWS]]
    caption = "Runs are listed by the chunk that they belong to." + (
        f" {len(left) - MOST_ROWS} more are not shown." if len(left) > MOST_ROWS else ""
    )
    n = sum(len(state.chunk.members) for state in left)
    commands = [sweep.source, run_again(states, sweep)]
    return [
        Section("Runs that did not finish", f"{n} runs have no results; nothing above is about them."),
        TableBlock(Table(("chunk", "runs", "step", "state", "why"), rows, caption)),
        Section("To run just these", "The command that ran the sweep passes over what is finished; so does a worker."),
        Code("\n".join(commands)),
    ]


def page_of(plan: Plan, groups: Sequence[GroupResult], partly: bool) -> Page:
    """What the experiment says of its results; where a part is missing it may not be able to."""
    try:
        return load_experiment(plan.experiment).report(groups)
    except Exception as error:
        if not partly:
            raise
        name = plan.experiment.rpartition(".")[2]
        return Page(name, f"What is finished is not enough for this experiment's report ({one_line(error)}).", [])


def publish(
    page: Page, groups: Sequence[GroupResult], directory: Path, command: str, blocks: Sequence[Block] = ()
) -> Path:
    """Write a page with what every report ends with: `blocks`, runs that diverged, the command, config and manifest."""
    for name, content in page.data.items():
        write_json(directory / name, content)
    for name, content in page.files.items():
        write_text(directory / name, content)
    manifest = read_json(Path(groups[0].directories[0]) / "manifest.json")
    blocks = [*page.blocks, *blocks, *diverged(groups)]
    return write_report(directory, page.title, page.summary, blocks, command, manifest)


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


def refuse_unfinished(states: Sequence[ChunkProgress], directory: Path) -> None:
    """Raise `InputError` where another worker still runs a part."""
    if unfinished(states):
        raise InputError(f"another worker still runs a part of {directory}: start the command again when it is done")
