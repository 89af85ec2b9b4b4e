"""Harvest places of a model and write them to a store. Nothing is trained: the store is what a run makes, beside

rows, bytes, shards []        what was written
scale [N]                     what rows of each place are divided by in training
identity [32]                 SHA-256 of what the store says of itself, its shards' SHA-256 included
"""

from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.activations.harvest import Place
from interp_jax.activations.store_io import About
from interp_jax.activations.store_writer_io import write_store
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.dictionaries.runs import MEASURED, Shared, grown_on_text, harvested, moments, widths_of
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.grow.stream import shared_arrays
from interp_jax.experiments.loop import digest
from interp_jax.experiments.store.config import Config
from interp_jax.experiments.subjects.grown import load_run
from interp_jax.models.transformer import TransformerConfig


def experiment(config: Config) -> Experiment:
    """The run that writes the store.

    Raises:
      InputError: no finished run on text, or a place that the model lacks.
    """
    cfg, name, shared = subject(config)
    here = places(config, cfg, name)
    analyse = lambda state, hypers, shared: write(config, cfg, name, here, shared)
    return Experiment(untrained(), lambda state, hypers, shared: {}, (1,), shared, analyse=analyse)


def subject(config: Config) -> tuple[TransformerConfig, str, Shared]:
    """The model's configuration and name, its parameters and its text."""
    run = grown_on_text(config.model)
    train, params = jnp.asarray(shared_arrays(run.member.part).train), load_run(run)
    return run.member.part.model, run.name, Shared(params, train, jnp.zeros((0, 0), jnp.int32), {}, jnp.zeros(()))


def places(config: Config, cfg: TransformerConfig, name: str) -> dict[str, Place]:
    """What is harvested, by the names that it has in the store.

    Raises:
      InputError: a site or layer that the model lacks.
    """
    widths = widths_of(cfg)
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
    """Write the store, or what is missing of it."""
    shape = (config.stream_steps, config.batch_size, cfg.n_context)
    rows: Any = lambda shared, b: harvested(cfg, shared, here, config.harvest, shape, config.stream_seed, b)
    stretch = jax.jit(rows)
    about = described(config, cfg, name, here, shared, *moments(stretch(shared, MEASURED)))
    of_training = lambda b: stretch(shared, MEASURED + 1 + b)
    store = write_store(config.store, about, of_training, config.stretches, config.per_shard)
    return {"rows": np.asarray(store.n_rows), "identity": np.frombuffer(store.identity, np.uint8)}


def described(
    config: Config, cfg: TransformerConfig, name: str, here: dict[str, Place], shared: Shared, scale: Any, mean: Any
) -> About:
    """What the store holds."""
    widths = widths_of(cfg)
    settings = {
        "harvest": asdict(config.harvest),
        "stream_seed": config.stream_seed,
        "batch_size": config.batch_size,
        "stream_steps": config.stream_steps,
        "text": digest(shared.train),
    }
    return About(
        name,
        digest(shared.params),
        here,
        {name: widths[place.site] for name, place in here.items()},
        config.dtype,
        settings,
        {name: float(x) for name, x in scale.items()},
        {name: np.asarray(x).tolist() for name, x in mean.items()},
    )
