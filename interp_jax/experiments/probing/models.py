"""The models that are compared: one along its training, and its untrained twin, which has random weights; places in them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import randomness, taps
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.dictionaries.subject import vectors
from interp_jax.experiments.probing.config import Config
from interp_jax.experiments.subjects.grown import find_run, is_run_directory, load_run, steps_of
from interp_jax.experiments.subjects.model import Subject, load_params
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig

FIRST = "blocks.resid_pre"  # what layer 0 reads: the embeddings
UNTRAINED, PUBLISHED = -1, 0  # in place of a step


class Place(NamedTuple):
    """A site of a layer, and its name for people."""

    site: str
    layer: int
    name: str


def places_of(config: Config, subject: Subject) -> list[Place]:
    """The embeddings, then each site of each layer, layer by layer.

    Raises:
      InputError: a site that is no vector of every layer.
    """
    known = vectors(subject.cfg)
    for site in config.reading.sites:
        if site not in known:
            raise InputError(
                f"reading.sites: {site!r} is not a site of vectors in every layer of {subject.name}; {nearest(site, known)}"
            )
    name = lambda site: "" if config.reading.sites == ("blocks.resid_post",) else f" {site.removeprefix('blocks.')}"
    layers = range(subject.cfg.n_layers)
    found = [Place(site, layer, f"layer {layer}{name(site)}") for layer in layers for site in config.reading.sites]
    return [Place(FIRST, 0, "embeddings"), *found]


def models_of(config: Config, cfg: TransformerConfig, seed: int) -> Iterator[tuple[int, Params]]:
    """Steps and weights: the model itself, its twin, and then along training. Loaded one by one."""
    grown = bool(config.model.path) and is_run_directory(config.model.path)
    run = find_run(config.model.path, config.model.run) if grown else None
    steps = steps_of(run) if run else [PUBLISHED]
    yield steps[-1], load_run(run) if run else load_params(config.model)
    yield UNTRAINED, transformer.init(randomness.key(seed, "probing.twin"), cfg)
    chosen = np.linspace(len(steps) - 1, 0, min(config.reading.models, len(steps))).round().astype(int)
    for step in np.array(steps)[np.unique(chosen)[:-1]].tolist():
        yield step, load_run(run, step)


def activations(
    params: Params,
    tokens: Int[Array, "N W P"],
    positions: Int[Array, "N W P"],
    index: Int[Array, " B"],
    cfg: TransformerConfig,
    places: Sequence[Place],
) -> tuple[Float[Array, "B _"], ...]:
    """The rows at each place, heads side by side, in one pass over windows that are run some at a time."""
    layers: dict[str, tuple[int, ...]] = {}
    for place in places:
        layers[place.site] = (*layers.get(place.site, ()), place.layer)
    stop = 1 + max(place.layer for place in places)

    def some(block: tuple[Array, Array]) -> list[Array]:
        model = lambda params, tokens, positions: transformer.stream(params, tokens, cfg, positions, stop_layer=stop)
        _, acts = taps.record(model, layers)(params, *block)
        return [acts[place.site][layers[place.site].index(place.layer)] for place in places]

    found = jax.lax.map(some, (tokens, positions))
    return tuple(x.reshape(tokens.size, -1)[index] for x in found)
