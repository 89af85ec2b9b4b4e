"""Attribution patching: what patching each node would do, to first order (Nanda 2023; Syed et al. 2023).

    effect(node) ≈ (source - base) · ∂metric/∂activation       the gradient at the base run, summed over the node's vector

One backward pass gives all nodes of all sites, where exact patching runs the model once per node. It is exact where the metric
is linear in the node, and blind where the gradient at the base run is flat: see `star.py`.
"""

from interp_jax.patching.attribution.linearisation import linearise
from interp_jax.patching.attribution.runs import Estimate, Runs
from interp_jax.patching.attribution.sites import first_order


def gradient(runs: Runs, sites: tuple[str, ...]) -> Estimate:
    """First-order effects of all nodes of `sites`: a method of `attribute`."""
    (there, taken), here = runs.recorded_source(sites), linearise(runs.base, sites)
    effects = {s: first_order(s, taken[s] - here.activations[s], here.gradients[s], runs.cfg) for s in sites}
    return Estimate(here.metric, there, effects)
