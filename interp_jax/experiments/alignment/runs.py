"""Search a relay for the subspace of its variable, with all controls, at many places and seeds in one population.

A run's analysis, with the axes M places, S searches at each:

    layer, position [M]          the places; a place is what `blocks.resid_post` holds after a layer at a position
    learned, random, shuffled, random_model, untouched, whole [M S]
                                 interchange accuracy on held-out pairs, of the search and of its controls: `controls.py`
    dimensions [M S]             of the subspace that was found
    shared, shared_random        dimensions that it, and the random control, share with the plane that holds the variable after
      [M S]                      this layer: Σ cos² of the principal angles
    shared_bystander [M S]       and with the copy that nothing reads
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from interp_jax.experiments.alignment.config import Config
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.models.relay_circuit import BEHIND, RelayTruth, kind_of_place, relay_circuit, relay_prompts
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.alignment.config import AlignmentConfig
from interp_jax.patching.alignment.controls import with_controls
from interp_jax.patching.alignment.interchange import Interchanges, from_prompts
from interp_jax.patching.alignment.rotations import random_basis, shared_dimensions
from interp_jax.patching.alignment.search import Alignment
from interp_jax.train.run import RunState

EVALUATIONS = ("learned", "random", "shuffled", "random_model", "untouched", "whole")


def experiment(config: Config) -> Experiment:
    """The runs of a config; they differ by their seed, k, price, dimensions, bystander and margin.

    Raises:
      InputError: a relay that cannot be.
    """
    relay(config, 0)

    def observe(state: RunState, hypers: Config, shared: Any) -> dict[str, Array]:
        return {"seed": state.seed}

    def analyse(state: RunState, hypers: Config, shared: Any) -> dict[str, np.ndarray]:
        return analysis(hypers, int(state.seed))

    return Experiment(untrained(), observe, (config.steps,), analyse=analyse)


def analysis(config: Config, seed: int) -> dict[str, np.ndarray]:
    """All that is measured of one relay; see above."""
    params, cfg, truth = relay(config, seed)
    members = searches(config, seed)
    found = with_controls(params, cfg, *pairs(config, seed), members, truth.answers, seed)
    seen = {name: getattr(found, name).accuracy for name in EVALUATIONS}
    seen |= {"dimensions": found.alignment.dimensions} | shared_with(found.alignment, truth)
    seen = {name: values.reshape(-1, config.searches) for name, values in seen.items()}
    layers, positions = (np.array([getattr(m, name) for m in members]) for name in ("layer", "place"))
    return seen | {"layer": layers[:: config.searches], "position": positions[:: config.searches]}


def relay(config: Config, seed: int) -> tuple[Params, TransformerConfig, RelayTruth]:
    """The model of a seed."""
    return relay_circuit(
        int(config.dimensions),
        config.layers,
        config.width,
        config.vocabulary,
        float(config.bystander),
        float(config.margin),
        seed,
    )


def pairs(config: Config, seed: int) -> tuple[Interchanges, Interchanges]:
    """Those to train on and those held out; each position is a choice of where."""
    n = config.pairs + config.held_out
    drawn = relay_prompts(int(config.dimensions), n, config.layers, config.vocabulary, seed)
    halves = (type(drawn)(*(part[rows] for part in drawn)) for rows in (np.s_[: config.pairs], np.s_[config.pairs :]))
    train, held_out = (from_prompts(half, range(config.layers + 2)) for half in halves)
    return train, held_out


def searches(config: Config, seed: int) -> list[AlignmentConfig]:
    """Members, place by place; their seeds are those of no other run's."""
    fixed: dict[str, Any] = {"variant": config.variant, "steps": config.steps_of_search}
    match config.variant:
        case "orthonormal":
            fixed |= {"k": config.wanted, "width": config.columns}
        case "low_rank":
            fixed |= {"width": config.columns}
        case "boundless":
            fixed |= {"price": float(config.price)}
    return [
        AlignmentConfig(**fixed, layer=layer, place=position, seed=seed * config.searches + search)
        for layer in range(config.layers)
        for position in range(config.layers + 2)
        if config.everywhere or kind_of_place(layer, position) != BEHIND
        for search in range(config.searches)
    ]


def shared_with(alignment: Alignment, truth: RelayTruth) -> dict[str, Float[np.ndarray, " R"]]:
    """What the subspaces that were found share with what is known; see above."""
    D, K = alignment.basis.shape[1:]
    rows = []
    for i, (layer, seed) in enumerate(zip(alignment.members.layer, alignment.members.seed, strict=True)):
        basis = alignment.subspace(i)
        random = random_basis(int(seed), D, K)[:, : basis.shape[1]]
        plane = truth.plane(int(layer))
        rows.append([shared_dimensions(*pair) for pair in ((basis, plane), (random, plane), (basis, truth.bystander))])
    return dict(zip(("shared", "shared_random", "shared_bystander"), np.array(rows).T, strict=True))
