"""The report: methods at one divergence, dose and response, what was predicted, and samples; more runs one after the other."""

import json
from collections.abc import Sequence

import jax
import numpy as np

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.steering.blocks import PARTS
from interp_jax.experiments.steering.findings import METHODS, best_layers, random_scores, scores_of
from interp_jax.experiments.steering.view import View
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
    return Page(f"Steering {title}", "\n\n".join(map(summary, views)), blocks)


def view_of(group: GroupResult, i: int) -> View:
    """A member of a group."""
    seen = {name: value[i] for name, value in group.observations[max(group.observations)].items()}
    about = json.loads(str(seen.pop("about")))
    return View(jax.tree.map(lambda leaf: leaf[i], group.config), seen, about)


def summary(view: View) -> str:
    """What does most at the bound, in a sentence for each target."""
    doses = view.config.doses
    title = view.about["title"]
    said = [
        f"{title[:1].upper()}{title[1:]} is steered in {len(METHODS)} ways, at {len(doses.doses)} doses and every layer, on"
        f" files that no direction was found on. What each does at {doses.bound:g} nats of divergence where nothing was to"
        " change:"
    ]
    for t, name in enumerate(view.targets):
        scores = scores_of(view.arrays, t, doses)
        chosen = best_layers(scores)
        effect = scores.effect[np.arange(len(METHODS)), chosen]
        random = random_scores(view.arrays, t, doses).effect
        random = random[np.isfinite(random)]
        if not np.isfinite(effect).any():
            said.append(f"Towards {name}: no method gets there.")
            continue
        order = [m for m in np.argsort(-np.where(np.isfinite(effect), effect, -np.inf)) if np.isfinite(effect[m])]
        named = ", ".join(f"{METHODS[m]} {effect[m]:+.2f}" for m in order[:4])
        control = f"; random directions {random.min():+.2f} to {random.max():+.2f}" if len(random) else ""
        said.append(f"Towards {name}: {named} nats{control}.")
    return "\n\n".join(said)
