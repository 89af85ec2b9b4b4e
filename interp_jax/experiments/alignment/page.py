"""The report: where searches find a variable whose place is known, beside their controls, and which subspace they find."""

from interp_jax.experiments.alignment.panels import beside_a_copy, by_dimensions, maps, subspaces
from interp_jax.experiments.alignment.scores import Population, plain, populations
from interp_jax.experiments.experiment import GroupResult
from interp_jax.results.blocks import Block, Page

SUMMARY = """Distributed alignment search on models whose variable is known, since their weights were written down: whether it
is found where it is held, by its own plane and number of dimensions, whether nothing is found elsewhere, and what controls say
of both. A search sees nothing of this but pairs of inputs and the answers that they should give."""


def report(groups: list[GroupResult]) -> Page:
    """A section for every question that the runs answer."""
    found = populations(groups)
    located = [plain(one) for one in found if one.config.everywhere and len(plain(one))]
    blocks: list[Block] = [*maps(located), *subspaces(located)] if located else []
    for one in found:
        blocks += by_dimensions(one) if asks(one) else []
        blocks += beside_a_copy(one) if (one.stated["bystander"] > 0).any() else []
    return Page("Alignment search where the subspace is known", SUMMARY, blocks)


def asks(population: Population) -> bool:
    """Whether runs ask for several numbers of dimensions."""
    return len(set(population.stated["k"][population.stated["bystander"] == 0])) > 1
