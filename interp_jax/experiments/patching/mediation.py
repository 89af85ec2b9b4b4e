"""What goes through a node and what goes past it: the table of direct and indirect effects."""

import numpy as np

from interp_jax.experiments.patching.listing import plain
from interp_jax.experiments.patching.ranking import node_names, nodes_of
from interp_jax.experiments.patching.sources import RUN
from interp_jax.experiments.patching.view import View
from interp_jax.patching.effects.mediation import Effects, mediation_effects
from interp_jax.patching.effects.shares import share_interval
from interp_jax.patching.prompts import DENOISING, NOISING
from interp_jax.results.blocks import Block, Section, TableBlock
from interp_jax.results.tables import Table, cell_text, interval

PARTS = ("indirect", "direct", "interaction")


def mediation_blocks(view: View) -> list[Block]:
    """Of the nodes with the largest effects."""
    heading = "Through a node, and past it"
    if view.config.source != RUN:
        return [
            Section(heading, "Effects through a node are of the other run's activation, which is not put in here.")
        ]
    text = (
        "Mediation analysis splits the whole effect at each node. `indirect = denoised - corrupted` goes through the node: it"
        " alone is clean. `direct = noised - corrupted` goes past it: everything but the node is clean. `interaction = total -"
        " direct - indirect` is what is left: above 0 the node works only along with others, below 0 others back it up. (With"
        " the words above, indirect is what is restored, and direct is 1 less what is lost.)"
    )
    return [Section(heading, text), TableBlock(mediation_table(view))]


def mediation_table(view: View) -> Table:
    """Shares of the whole effect, with intervals."""
    found, names, pairs = effects_of(view), node_names(view), len(view.clean)
    parts = [share_interval(getattr(found, part), found.total) for part in PARTS]
    size = np.maximum(np.abs(found.indirect.mean(-1)), np.abs(found.total_indirect.mean(-1)))
    rows = []
    for i in np.argsort(-size, kind="stable")[: view.config.show.nodes]:
        rows.append((names[i], *(plain(float(bound[i])) for part in parts for bound in part)))
    whole = f"The total effect is {cell_text(interval(found.total))} in {view.unit}, over {pairs} pairs, and 1 here."
    caption = f"{whole} Denoising gives the indirect effect, noising the direct one; intervals are 95%."
    return Table(("node", *(column for part in PARTS for column in (part, "from", "to"))), rows, caption)


def effects_of(view: View) -> Effects:
    """Of every head and MLP, in units of the metric."""
    restored, lost = (nodes_of(view, direction) for direction in (DENOISING, NOISING))
    return mediation_effects(view.clean, view.corrupted, view.corrupted + restored, view.clean - lost)
