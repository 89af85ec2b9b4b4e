"""Patch a model whose nodes are known, exactly and by every estimate, in both directions.

A run's analysis, with the axes S of `SITES`, N senders = L·H heads, and examples B; effects are differences of the metric:

    clean, corrupted [B]                 the metric of the two runs of each pair

and for both directions, "denoising." and "noising.",

    exact [S L H B]                      effects of patching each node, and of each estimate of `METHODS`
    truth [S L H]                        shares of the total effect that patching must find, and, where its closed form is
    first_order [S L H]                  known, those that gradient · difference must; see `subjects.py`
    edges [3 N L H B]                    exact effects of direct paths into q, k, v; not of models without effects
    edges_truth [3 N L H]
    random [M B]                         of parts of attention's output of a head's width, at random; only of those models
"""

from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.known_nodes.config import WITHOUT_EFFECT, Config
from interp_jax.experiments.known_nodes.subjects import INPUTS, Subject, subject_of
from interp_jax.models.circuit_truth import SITES
from interp_jax.patching.attribution.estimates import Method, attribute
from interp_jax.patching.attribution.gradients import gradient
from interp_jax.patching.attribution.integrated import Integrated
from interp_jax.patching.attribution.relevance import Relevance
from interp_jax.patching.attribution.star import softmax, star
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import Node, at_once
from interp_jax.patching.exact.random_parts import patch_random_parts
from interp_jax.patching.paths.patch import every_head, patch_paths
from interp_jax.patching.prompts import DIRECTIONS
from interp_jax.train.run import RunState

NAMES = tuple(f"blocks.attn.{site}" for site in SITES)
ESTIMATES: dict[str, Method] = {
    "gradient": gradient,
    "integrated": Integrated(),
    "softmax": softmax,
    "star": star,
    "relevance": Relevance(),
}
METHODS = {
    "exact": "exact patching",
    "gradient": "AtP",
    "integrated": "integrated gradients",
    "softmax": "AtP, exact softmax",
    "star": "AtP*",
    "relevance": "RelP",
}
SIZES = ("star",)  # methods whose effects have no sign
RANDOM_NODES = 20  # of a layer


def experiment(config: Config) -> Experiment:
    """The runs of a config; they differ by their seed, sharpness and leak.

    Raises:
      InputError: a model that cannot be.
    """
    subject_of(config, 0)

    def observe(state: RunState, hypers: Config, shared: Any) -> dict[str, Array]:
        return {"seed": state.seed}

    def analyse(state: RunState, hypers: Config, shared: Any) -> dict[str, np.ndarray]:
        return analysis(hypers, int(state.seed))

    return Experiment(untrained(), observe, (config.steps,), analyse=analyse)


def analysis(config: Config, seed: int) -> dict[str, np.ndarray]:
    """All that is measured of one model; see above."""
    subject = subject_of(config, seed)
    found: dict[str, np.ndarray] = {}
    for direction in DIRECTIONS:
        seen = exact_effects(subject, direction)
        found |= {name: seen.pop(name) for name in ("clean", "corrupted")}
        seen |= estimated_effects(subject, direction) | {"truth": subject.nodes[direction]}
        seen |= {name: known[direction] for name, known in (("first_order", subject.first_order),) if known}
        if config.circuit in WITHOUT_EFFECT:
            seen["random"] = random_effects(subject, direction, seed)
        elif subject.cfg.n_layers > 1:
            seen["edges"] = edge_effects(subject, direction)
            seen["edges_truth"] = subject.edges[direction]
        found |= {f"{direction}.{name}": values for name, values in seen.items()}
    return found


def exact_effects(subject: Subject, direction: str) -> dict[str, np.ndarray]:
    """Of every head at every site, and the metric of the two runs."""
    params, cfg, prompts, metric = subject[:4]
    every = [(site, layer, head) for site in NAMES for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]
    grid = at_once([[Node(site, layer, unit=head)] for site, layer, head in every], cfg)
    found = patch_grid(params, cfg, prompts, grid, metric, direction)
    effects = found.effect.reshape(len(SITES), cfg.n_layers, cfg.n_heads, -1)
    return {"exact": effects, "clean": found.clean, "corrupted": found.corrupted}


def estimated_effects(subject: Subject, direction: str) -> dict[str, Float[np.ndarray, "S L H B"]]:
    """By every method that the model has: GradDrop drops a layer and keeps another."""
    params, cfg, prompts, metric = subject[:4]
    methods = {name: method for name, method in ESTIMATES.items() if name != "star" or cfg.n_layers > 1}

    def effects(method: Method) -> Float[np.ndarray, "S L H B"]:
        found = attribute(params, cfg, prompts, metric, direction, NAMES, method).effects
        at_all_positions = [np.asarray(found[name]).sum(2) for name in NAMES]
        return np.moveaxis(np.stack(at_all_positions), 2, -1)

    return {name: effects(method) for name, method in methods.items()}


def edge_effects(subject: Subject, direction: str) -> Float[np.ndarray, "I N L H B"]:
    """Of the direct path from every head to every input of every head."""
    params, cfg, prompts, metric = subject[:4]
    run = partial(patch_paths, params, cfg, prompts, every_head(cfg), metric=metric, direction=direction)
    return np.stack([run(receiver=via).effect for via in INPUTS])


def random_effects(subject: Subject, direction: str, seed: int) -> Float[np.ndarray, "M B"]:
    """Of random parts of each layer's attention output, as wide as a head, layer by layer."""
    params, cfg, prompts, metric = subject[:4]
    found = patch_random_parts(params, cfg, prompts, metric, direction, RANDOM_NODES, seed)
    return found.effect.reshape(-1, len(prompts.at))
