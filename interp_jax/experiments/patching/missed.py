"""How much an estimate may have missed: of all heads' outputs at all positions, those with the largest estimates are patched.

Random sets of all the others are patched at once, and what sets with a node do more, or less, than those without it bounds the
largest effect among them; see `patching/attribution/missed_nodes.py`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from interp_jax.experiments.patching.causes import Contrast
from interp_jax.experiments.patching.cells import every_column, site_of
from interp_jax.experiments.patching.config import SHARE
from interp_jax.patching.attribution.agreement import largest
from interp_jax.patching.attribution.missed_nodes import missed_nodes
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import Node, at_once


class Missed(NamedTuple):
    """What is known of nodes that an estimate ranks.

    Attributes:
      nodes: how many there are.
      checked: how many were patched one by one.
      strongest: the size of the largest mean effect among these.
      bound: on that of any other, with 95% confidence.
    """

    nodes: float
    checked: float
    strongest: float
    bound: float


def bound_missed(
    contrast: Contrast, direction: str, estimate: Float[np.ndarray, "L H M"], n_checked: int, n_sets: int, seed: int
) -> Missed:
    """What heads' outputs may do, at all columns of `every_column`, that are not among the `n_checked` with the largest mean
    estimates.
    """
    params, cfg, prompts, metric, places, _ = contrast
    everywhere = every_column(places, prompts.clean.shape[1])
    columns = [int(at[0]) if np.ptp(at) == 0 else tuple(map(int, at)) for at in everywhere]
    nodes = [Node(site_of("z"), layer, columns[n], head) for layer, head, n in np.ndindex(estimate.shape)]
    n_checked = min(n_checked, len(nodes) // 2)
    checked = [[nodes[i]] for i in largest(estimate.ravel())[:n_checked]]
    strongest = [0.0]

    def exact(sets: Bool[np.ndarray, "S *nodes"]) -> Float[np.ndarray, " S"]:
        members = [np.flatnonzero(one) for one in sets.reshape(len(sets), -1)]
        some = np.array([len(one) > 0 for one in members])  # nothing is patched in the others
        cells = checked + [[nodes[i] for i in one] for one in members if len(one)]
        effect = patch_grid(params, cfg, prompts, at_once(cells, cfg), metric, direction).effect.mean(-1)
        strongest.extend(map(float, np.abs(effect[:n_checked])))
        said = np.zeros(len(sets))
        said[some] = effect[n_checked:]
        return said

    found = missed_nodes(estimate, exact, n_checked, n_sets, SHARE, seed=seed, depth=cfg.n_layers - 1)
    return Missed(len(nodes), n_checked, max(strongest), found.bound)
