"""The report: one model on one prompt; more of them, where a sweep has several, one after the other."""

from collections.abc import Sequence

import numpy as np

from interp_jax.anatomy.decomposition import component_names
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.inside.blocks import (
    attribution_blocks,
    lens_blocks,
    model_blocks,
    part_name,
    pattern_blocks,
)
from interp_jax.experiments.inside.circuit_blocks import circuit_blocks
from interp_jax.experiments.inside.view import View, head_name, view_of
from interp_jax.experiments.inside.weights import composition_blocks, kind_blocks
from interp_jax.results.blocks import Block, Page, Section
from interp_jax.results.model_plots import signed

PARTS = (
    model_blocks,
    lens_blocks,
    attribution_blocks,
    pattern_blocks,
    kind_blocks,
    circuit_blocks,
    composition_blocks,
)


def report(groups: Sequence[GroupResult]) -> Page:
    """Everything about each model and prompt."""
    views = [view_of(group) for group in groups]
    blocks: list[Block] = []
    for i, view in enumerate(views, 1):
        for block in (block for make in PARTS for block in make(view)):
            several = isinstance(block, Section) and len(views) > 1
            blocks.append(block._replace(heading=f"{block.heading} ({i})") if several else block)
    names = {view.subject.title for view in views}
    name = names.pop() if len(names) == 1 else f"{len(names)} models"
    return Page(f"Inside {name}", "\n\n".join(summary_of(view) for view in views), blocks)


def summary_of(view: View) -> str:
    """What was found, in a few sentences."""
    seen = view.seen
    head, part = int(np.abs(seen["head"]).argmax()), int(np.abs(seen["component"]).argmax())
    name = part_name(component_names(view.cfg)[part])
    kinds = (f"{kind} {head_name(int(s.mean(0).argmax()), view.cfg)} ({s.mean(0).max():.2f})"
             for kind, s in view.kinds._asdict().items())  # fmt: skip
    likeliest, probability = view.names(seen["lens_ids"][-1, -1, :1])[0], float(seen["lens_probability"][-1, -1, 0])
    return (
        f"After {shorten_front(view.text, 120)!r} the likeliest token is {likeliest!r} ({probability:.0%}). The logit of"
        f" {view.answer!r} is {seen['difference']:.3g} above that of {view.against!r}. What adds most to it, for or against, is"
        f" {name} ({signed(seen['component'][part])}), and among heads {head_name(head, view.cfg)}"
        f" ({signed(seen['head'].flat[head])}). Strongest heads on repeated random tokens: {', '.join(kinds)}."
    )


def shorten_front(text: str, most: int) -> str:
    """The end of a text of more than `most` characters."""
    return text if len(text) <= most else f"…{text[1 - most :]}"
