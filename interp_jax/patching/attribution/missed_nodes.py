"""How large an effect may have been missed: a bound on every node that an estimate ranks too low to be checked.

After Kramár et al. 2024 (arXiv:2403.00745): random sets of the unchecked nodes are patched together, each set in one exact
run, and a node's effect shows as the difference between sets with it and sets without:

    Δ_n = mean of c(S) over the sets with n - mean over those without        m and S - m of the S sets, drawn for each node
    SE_n² = s²(with) / m + s²(without) / (S - m)                             Neyman's, which is Welch's
    bound = max over n of (|Δ_n| + t(confidence; Welch's degrees of freedom) · SE_n) / (1 - share)^depth

No correction for the number of nodes is needed: let n* be the node with the largest effect; the bound is too small only if
n*'s own is, which happens with probability 1 - confidence at most. That is what it says, and all: P(bound ≥ |effect of n*|).
It does not say that the node which attains it has any effect. With additive effects SE_n² ≈ Σ c² / S, whatever the share m/S.

A node of the set overwrites what others do through it. Along a chain of `depth` other nodes, all of which must be out of the
set for n to be heard, only (1 - share)^depth of n's effect shows; so the bound is divided by that. It is enough where the
paths from n to the metric work in one direction and each leads through at most `depth` unchecked nodes: of heads, L - 1.

Assumptions. Otherwise, what n does in the company of a random set is, on average, what it does alone: nodes that back each
other up do more, or less, together, and a small share keeps company small. Means are about normal: m is large enough for the
effects at hand, and one huge node is caught by a few sets. `exact` has no noise of its own beside that of which nodes are in.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Bool, Float, Int

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.patching.attribution.agreement import Nodes, largest

FEWEST = 5  # sets with a node, and without, that a standard error is made of


class MissedNodes(NamedTuple):
    """What the N unchecked nodes may do.

    Attributes:
      bound: on the largest effect of any of them.
      nodes: indices of the nodes laid flat, largest estimates first.
      effects: Δ, in the units of `exact`.
      errors: their standard errors.
      bounds: of each node, had it been asked about alone.
    """

    bound: float
    nodes: Int[np.ndarray, " N"]
    effects: Float[np.ndarray, " N"]
    errors: Float[np.ndarray, " N"]
    bounds: Float[np.ndarray, " N"]


def missed_nodes(
    estimate: Nodes,
    exact: Callable[[Bool[np.ndarray, "S *nodes"]], Float[Any, " S"]],
    n_checked: int,
    n_sets: int = 256,
    share: float = 0.1,
    confidence: float = 0.95,
    seed: int = 0,
    depth: int = 0,
) -> MissedNodes:
    """Bound the effects of all nodes but the `n_checked` that `estimate` ranks highest by size.

    Args:
      estimate: of all nodes.
      exact: the effect, a mean over examples, of patching each of a batch of sets of nodes at once.
      n_checked: how many nodes were patched one by one already.
      n_sets: exact runs to spend.
      share: of the sets that a node is in.
      confidence: that the bound holds.
      seed: which sets are drawn.
      depth: how many other nodes carry on what a node does, one after the other, at most.

    Raises:
      InputError: no node left, too few sets with or without a node, a confidence outside (½, 1), a depth below 0, an effect not
        finite.
    """
    n_with = round(share * n_sets)
    if not 0 <= n_checked < estimate.size:
        raise InputError(f"n_checked = {n_checked}: leaves none of {estimate.size} nodes to ask about")
    if min(n_with, n_sets - n_with) < FEWEST:
        raise InputError(
            f"n_sets = {n_sets}, share = {share}: {n_with} sets have a node and {n_sets - n_with} have it not; "
            f"both must be at least {FEWEST}"
        )
    if not 0.5 < confidence < 1:
        raise InputError(f"confidence = {confidence}: must lie between 0.5 and 1")
    if depth < 0:
        raise InputError(f"depth = {depth}: a number of nodes, at least 0")
    nodes = largest(np.asarray(estimate).ravel())[n_checked:]
    member = draw_sets(len(nodes), n_sets, n_with, seed)
    sets = np.zeros((n_sets, estimate.size), bool)
    sets[:, nodes] = member
    said = np.asarray(exact(sets.reshape(n_sets, *estimate.shape)), np.float64)
    if said.shape != (n_sets,) or not np.isfinite(said).all():
        raise InputError(f"exact must give one finite effect for each of {n_sets} sets, got shape {said.shape}")
    return _bounds(nodes, member, said, confidence, (1 - n_with / n_sets) ** depth)


def draw_sets(n_nodes: int, n_sets: int, n_with: int, seed: int) -> Bool[np.ndarray, "S N"]:
    """Random sets in which each node is `n_with` times, drawn for every node by itself."""
    draws = np.asarray(randomness.uniform("threefry", seed, "sets of nodes", 0, (n_sets, n_nodes)))
    return draws.argsort(axis=0).argsort(axis=0) < n_with


def _bounds(nodes: np.ndarray, member: np.ndarray, said: np.ndarray, confidence: float, heard: float) -> MissedNodes:
    """`heard` is the share of an effect that shows at least."""
    said = said - said.mean()  # else the squares below would lose digits
    means, variances, counts = [], [], []
    for side in (member.T.astype(np.float64), 1.0 - member.T):
        n = side.sum(1)
        mean = side @ said / n
        means.append(mean)
        variances.append(np.maximum(side @ said**2 / n - mean**2, 0.0) / (n - 1))  # of the mean
        counts.append(n)
    effects, error = means[0] - means[1], np.sqrt(variances[0] + variances[1])
    spread = sum(v**2 / (n - 1) for v, n in zip(variances, counts, strict=True))
    freedom = np.where(spread > 0, error**4 / np.where(spread > 0, spread, 1.0), np.inf)
    bounds = (np.abs(effects) + scipy.special.stdtrit(freedom, confidence) * error) / heard
    return MissedNodes(float(bounds.max()), nodes, effects, error, bounds)
