"""The report: what each method finds of nodes that are known, what it cannot see, and what it finds where nothing is."""

from collections.abc import Callable

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_nodes.null_panels import rates
from interp_jax.experiments.known_nodes.panels import accuracy, cancellation, heads, paths, sharpening
from interp_jax.experiments.known_nodes.scores import Population, populations
from interp_jax.experiments.known_nodes.switch_panel import saturation
from interp_jax.results.blocks import Block, Page, Section, TableBlock
from interp_jax.results.tables import Table

SUMMARY = """Patching and its estimates on models whose every node is known, since their weights were written down. Precision
and recall against a threshold, what a saturated softmax hides from gradients, and how often nodes are called where nothing is
to be found. A share is the part of the total effect that a node carries."""

SIGHT = (
    (
        "exact patching",
        "the effect itself",
        "a node that others stand in for: the backup is silent in both runs, and noising the mover may show nothing",
    ),
    ("direct paths", "what one head says to one input of another", "nodes by themselves; paths are many"),
    ("AtP", "what is linear in the logits", "all that passes a softmax where patterns are sharp: most of the circuit"),
    (
        "integrated gradients",
        "a softmax that the path crosses slowly",
        "one that it crosses between two of its steps; and it sees nodes that act only half way along the path",
    ),
    ("AtP, exact softmax", "besides, queries and keys behind their own softmax", "a second softmax behind the first"),
    ("AtP*", "besides, direct effects that later layers cancel", "signs; a second softmax behind the first"),
    ("RelP", "what is linear while patterns are held", "queries and keys, and all that acts through them"),
)
PANELS: tuple[tuple[tuple[str, ...], Callable[[Population], list[Block]]], ...] = (
    (("name_mover", "induction"), accuracy),
    (("name_mover",), heads),
    (("name_mover",), sharpening),
    (("name_mover", "induction"), paths),
    (("saturated",), saturation),
    (("cancelling",), cancellation),
    (("no_mean_effect", "no_effect"), rates),
)


def report(groups: list[GroupResult]) -> Page:
    """A section for every panel and population that it is about."""
    blocks: list[Block] = [
        Section("What each method sees, and what it cannot"),
        TableBlock(Table(("method", "sees", "cannot see"), SIGHT, "By theory; the rest of this page measures it.")),
    ]
    found = populations(groups)
    for circuits, panel in PANELS:
        for population in found:
            if population.circuit in circuits:
                blocks += panel(population)
    return Page("Patching on models of known nodes", SUMMARY, blocks)
