"""The report: one model and what is read of it; more of them, where a sweep has several, one after the other."""

from collections.abc import Sequence

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.probing.blocks import PARTS
from interp_jax.experiments.probing.findings import view_of
from interp_jax.experiments.probing.words import summary
from interp_jax.results.blocks import Block, Page, Section


def report(groups: Sequence[GroupResult]) -> Page:
    """Everything about each run."""
    views = [view_of(group, i) for group in groups for i in range(len(group.hashes))]
    blocks: list[Block] = []
    for i, view in enumerate(views, 1):
        for block in (block for make in PARTS for block in make(view)):
            several = isinstance(block, Section) and len(views) > 1
            blocks.append(block._replace(heading=f"{block.heading} ({i})") if several else block)
    titles = {view.about["title"] for view in views}
    title = titles.pop() if len(titles) == 1 else f"{len(titles)} models"
    return Page(f"What can be read off {title}, and what it uses", "\n\n".join(map(summary, views)), blocks)
