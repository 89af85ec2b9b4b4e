"""The report: one model on one task; more of them, where a sweep has several, one after the other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.patching.circuit import as_data, chain_of, percent, sentence
from interp_jax.experiments.patching.estimate_blocks import agreement_data, estimate_blocks
from interp_jax.experiments.patching.maps import head_blocks, position_blocks
from interp_jax.experiments.patching.mediation import mediation_blocks
from interp_jax.experiments.patching.path_blocks import circuit_blocks, path_blocks
from interp_jax.experiments.patching.question import question_blocks
from interp_jax.experiments.patching.ranking import ranking_blocks
from interp_jax.experiments.patching.sources import MEAN, RUN, ZERO
from interp_jax.experiments.patching.view import View, view_of
from interp_jax.patching.prompts import DENOISING, NOISING
from interp_jax.results.blocks import Block, Page, Section

STRONGEST = 3  # heads in the summary
PUT_IN = {  # in denoising, and in noising
    RUN: ("the clean run's output", "the corrupted run's"),
    MEAN: ("the mean output of the other pairs' clean runs", "that of the others' corrupted runs"),
    ZERO: ("an output of 0", "one of 0"),
}
PARTS = (
    question_blocks,
    circuit_blocks,
    position_blocks,
    head_blocks,
    ranking_blocks,
    mediation_blocks,
    path_blocks,
    estimate_blocks,
)


def report(groups: Sequence[GroupResult]) -> Page:
    """Everything about each model and task."""
    views = [view_of(group) for group in groups]
    blocks: list[Block] = []
    for i, view in enumerate(views, 1):
        for block in (block for make in PARTS for block in make(view)):
            several = isinstance(block, Section) and len(views) > 1
            blocks.append(block._replace(heading=f"{block.heading} ({i})") if several else block)
    data = {"circuits.json": [as_data(view, chain_of(view)) | {"agreement": agreement_data(view)} for view in views]}
    return Page(title_of(views), "\n\n".join(map(summary_of, views)), blocks, data)


def title_of(views: Sequence[View]) -> str:
    """What was done."""
    names, tasks = {Path(view.about["name"]).name for view in views}, {task_name(view) for view in views}
    who = names.pop() if len(names) == 1 else f"{len(names)} models"
    return f"What makes {who} do {tasks.pop() if len(tasks) == 1 else f'{len(tasks)} tasks'}"


def task_name(view: View) -> str:
    """A template's name, or a file's."""
    task = view.config.task
    return Path(task.file).name if task.file else task.name


def summary_of(view: View) -> str:
    """What was found, in a few sentences."""
    about = (
        f"{sentence(view, chain_of(view))}\n\n{len(view.clean)} pairs of {task_name(view)}: the mean {view.unit} is"
        f" {view.clean.mean():.3g} on clean prompts, {view.corrupted.mean():.3g} on corrupted ones."
    )
    if not view.is_clear:
        return about
    shares = [view.shares(direction, "z").ravel().tolist() for direction in (DENOISING, NOISING)]
    order = np.argsort(-np.abs(shares).mean(0), kind="stable")[:STRONGEST]
    heads = (f"{view.node_name(h)} ({percent(shares[0][h])}, {percent(shares[1][h])})" for h in map(int, order))
    return (
        f"{about} The strongest heads, with what {PUT_IN[view.config.source][0]} restores in the corrupted run (denoising), and"
        f" what is lost with {PUT_IN[view.config.source][1]} in the clean one (noising): {', '.join(heads)}."
    )
