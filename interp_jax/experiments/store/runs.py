"""Harvest places of a model and write them to a store. Nothing is trained: the store is what a run makes, beside

rows, bytes, shards []        what was written
identity [32]                 SHA-256 of what the store says of itself, its shards' SHA-256 included
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from interp_jax.activations.harvest import Place
from interp_jax.activations.store_index_io import About
from interp_jax.activations.store_writer_io import Writer, write_store
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.dictionaries.subject import MEASURED, Shared, harvested, vectors
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.loop import digest
from interp_jax.experiments.processes import meet
from interp_jax.experiments.store.config import Config
from interp_jax.experiments.subjects.model import load_params, subject_of
from interp_jax.experiments.subjects.text import check_length, is_grown, reading, settled, text_of
from interp_jax.models.transformer import TransformerConfig


def experiment(config: Config) -> Experiment:
    """The run that writes the store.

    Raises:
      InputError: no model with a text, or a place that the model lacks.
    """
    config = replace(config, harvest=settled(config.harvest, config.model))
    cfg, name, shared = subject(config)
    here = places(config, cfg, name)
    analyse = lambda state, hypers, shared: write(config, cfg, name, here, shared)
    return Experiment(untrained(), lambda state, hypers, shared: {}, (1,), shared, analyse=analyse)


def subject(config: Config) -> tuple[TransformerConfig, str, Shared]:
    """The model's configuration and name, its parameters and its text."""
    text, own = text_of("model", config.model, config.data), subject_of(config.model)
    cfg = reading("model", own, is_grown(config.model), config.context)
    check_length(text, cfg.n_context)
    train, prefix = jnp.asarray(text.train), jnp.asarray(text.prefix, jnp.int32)
    held_out = jnp.zeros((0, 0), jnp.int32)
    return cfg, own.name, Shared((load_params(config.model),), train, held_out, {}, jnp.zeros(()), prefix=prefix)


def places(config: Config, cfg: TransformerConfig, name: str) -> dict[str, Place]:
    """What is harvested, by the names that it has in the store.

    Raises:
      InputError: a site or layer that the model lacks.
    """
    widths = vectors(cfg)
    for site in config.sites:
        if site not in widths:
            raise InputError(f"{site!r}: not a site of vectors in every layer of {name}; {nearest(site, widths)}")
    for layer in config.layers:
        if not -cfg.n_layers <= layer < cfg.n_layers:
            raise InputError(f"layer = {layer}: {name} has {cfg.n_layers} layers")
    every = [Place(site, layer % cfg.n_layers) for site in config.sites for layer in config.layers]
    return {f"{place.site}.{place.layer}": place for place in every}


def write(
    config: Config, cfg: TransformerConfig, name: str, here: dict[str, Place], shared: Shared
) -> dict[str, np.ndarray]:
    """Write the store, or what is missing of it; of several processes each writes its shards."""
    sizes = config.stream_steps, config.batch_size

    def rows(shared: Shared, b: Any) -> dict[str, Array]:
        return harvested(
            cfg, shared.models[0], (shared.train, shared.prefix), here, config.harvest, sizes, config.stream_seed, b
        )

    stretch = jax.jit(rows)
    about = described(config, cfg, name, here, shared, *moments(stretch(shared, MEASURED)))
    of_training = lambda b: stretch(shared, MEASURED + 1 + b)
    writer = Writer(jax.process_index(), jax.process_count(), meet)
    store = write_store(config.store, about, of_training, config.stretches, config.per_shard, writer)
    return {"rows": np.asarray(store.n_rows), "identity": np.frombuffer(store.identity, np.uint8)}


def moments(found: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Mean lengths of rows [T B D] over √width, and their means."""
    lengths = {name: jnp.linalg.norm(x, axis=-1).mean() / x.shape[-1] ** 0.5 for name, x in found.items()}
    return lengths, {name: x.mean((0, 1)) for name, x in found.items()}


def described(
    config: Config, cfg: TransformerConfig, name: str, here: dict[str, Place], shared: Shared, scale: Any, mean: Any
) -> About:
    """What the store holds."""
    widths = vectors(cfg)
    settings = {
        "harvest": asdict(config.harvest),
        "stream_seed": config.stream_seed,
        "batch_size": config.batch_size,
        "stream_steps": config.stream_steps,
        "context": cfg.n_context,
        "text": digest(shared.train),
    }
    return About(
        name,
        digest(shared.models[0]),
        here,
        {name: widths[place.site] for name, place in here.items()},
        config.dtype,
        settings,
        {name: float(x) for name, x in scale.items()},
        {name: np.asarray(x).tolist() for name, x in mean.items()},
    )
