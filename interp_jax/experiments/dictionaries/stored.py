"""Activations of a place in a model that come from a store in place of the model, which is still what is measured on.

What was harvested must be what the config says: the model, the place and the harvest; and the seed, where rows are read in the
order in which they were written. A store that is shorter than the training is read from its beginning again.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Shaped

from interp_jax.activations.harvest import Place
from interp_jax.activations.order import Order, row_numbers
from interp_jax.activations.store_io import Store, open_store
from interp_jax.activations.store_writer_io import different
from interp_jax.errors import InputError
from interp_jax.experiments.dictionaries.config import Config


def opened(config: Config) -> Store:
    """The store, after a look at how it was harvested.

    Raises:
      InputError: no store, or one that was harvested in another way.
    """
    store = open_store(config.store)
    asked: dict[str, Any] = {"harvest": asdict(config.harvest)}
    if not config.reshuffle:
        asked["stream_seed"] = config.stream_seed
    held = {name: store.about.settings.get(name) for name in asked}
    if differences := different(held, asked):
        raise InputError(
            f"{store.directory} was harvested otherwise: {differences}: change the config, or write another store"
        )
    return store


def named(config: Config, store: Store, here: Mapping[str, Place]) -> dict[str, str]:
    """What is read and what is said, by the names of the store."""
    own = config.dictionary
    widths = {"read": own.d_in // own.pieces, "write": own.width_out // own.pieces}
    return {what: store.named(place, widths[what.split()[0]]) for what, place in here.items()}


def identity(config: Config, here: Mapping[str, Place], parameters: str) -> Shaped[np.ndarray, "32"]:
    """What tells the store apart, for all that members share.

    Raises:
      InputError: a store of another model or place.
    """
    store = opened(config)
    if store.about.parameters != parameters:
        raise InputError(
            f"{store.directory} holds activations of {store.about.model}, parameters {store.about.parameters[:12]}; those of "
            f"{config.model.path or 'another model'}, parameters {parameters[:12]}, were asked for"
        )
    named(config, store, here)
    return np.frombuffer(store.identity, np.uint8)


def loader(config: Config, here: Mapping[str, Place]) -> Callable[[int], dict[str, np.ndarray]]:
    """From the first step of a stretch to its activations [T B D], as they are; what is said where it is not what is read."""
    store = opened(config)
    names = named(config, store, here)
    order = Order(tuple(shard.rows for shard in store.shards), config.reshuffle, config.stream_seed)
    shape = (config.stream_steps, config.batch_size)

    def load(first: int) -> dict[str, np.ndarray]:
        numbers = row_numbers(order, first * config.batch_size, config.stream_steps * config.batch_size)
        found = store.take(numbers, tuple(dict.fromkeys(names.values())))
        distinct = names if config.writes else {what: name for what, name in names.items() if what.startswith("read")}
        return {what: found[name].reshape(*shape, -1) for what, name in distinct.items()}

    return load
