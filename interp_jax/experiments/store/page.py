"""The report: what the store holds, and how to train from it."""

from typing import Any

import numpy as np

from interp_jax.activations.store_io import Store, open_store
from interp_jax.errors import InputError
from interp_jax.experiments.experiment import GroupResult
from interp_jax.results.blocks import Block, Code, Page, Section, TableBlock, Text
from interp_jax.results.tables import Table

SUMMARY = "Activations of a grown model on disk, for dictionaries to be trained on. Every shard has its SHA-256 in store.json."
COLUMNS = ("place", "width", "scale")


def report(groups: list[GroupResult]) -> Page:
    """A section for each store."""
    stores = {group.config.store: opened(group) for group in groups}
    blocks: list[Block] = []
    for path, store in stores.items():
        blocks += panel(path, store)
    return Page("Stores of activations", SUMMARY, blocks, {"stores.json": [summary(p, s) for p, s in stores.items()]})


def opened(group: GroupResult) -> Store:
    """The store that a run wrote.

    Raises:
      InputError: it is gone, or another has taken its place.
    """
    path, seen = group.config.store, group.observations[1]
    try:
        store = open_store(path)
    except InputError as error:
        raise InputError(f"{error}; --rerun writes it again") from error
    if store.identity != np.asarray(seen["identity"][-1], np.uint8).tobytes():
        raise InputError(
            f"{path}: another store lies where this run wrote its own: remove it, and --rerun writes it again"
        )
    return store


def summary(path: str, store: Store) -> dict[str, Any]:
    """A store's figures."""
    n_bytes = sum(shard.bytes for shard in store.shards)
    figures = {"store": path, "rows": store.n_rows, "shards": len(store.shards), "bytes": n_bytes}
    return figures | {"model": store.about.model, "dtype": store.about.dtype, "settings": store.about.settings}


def panel(path: str, store: Store) -> list[Block]:
    """What one holds."""
    about, found = store.about, summary(path, store)
    text = f"{found['rows']:,} rows in {about.dtype}, {found['shards']} shards, {found['bytes'] / 1e9:.2f} GB."
    rows = [(about.place(name), about.widths[name], about.scale[name]) for name in about.places]
    table = Table(COLUMNS, rows, "The scale is the mean length of rows over √width.")
    return [
        Section(f"{path}: {about.model}"),
        Text(text),
        TableBlock(table),
        Code(f"./launch/local --config configs/dictionaries.py --config.model.path=… --config.store={path}"),
    ]
