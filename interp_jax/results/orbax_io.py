"""Orbax as checkpoints use it: synchronous, silent, and by one process or by all that a tree lies over."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils


def lies_apart(tree: Any) -> bool:
    """Whether arrays lie over several processes, so that none has all of them."""
    where = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(tree)]
    return any(sharding is not None and not sharding.is_fully_addressable for sharding in where)


def meet(together: bool, where: str) -> None:
    """Wait for the other processes, if there are any."""
    if together:
        multihost_utils.sync_global_devices(f"checkpoint: {where}")


@contextlib.contextmanager
def opened(directory: Path, together: bool) -> Iterator[ocp.CheckpointManager]:
    """Orbax, synchronous, without its advice on shardings and retention, which are decided here.

    Of several processes that run a chunk either all call it together, or one alone, which must not make it wait for the others.
    """
    process = jax.process_index()
    alone = () if together else (process, {process}, f"process{process}")
    processes = ocp.options.MultiprocessingOptions(*alone)
    options = ocp.CheckpointManagerOptions(
        enable_async_checkpointing=False, save_root_metadata=False, create=False, multiprocessing_options=processes
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=processes)
    directory.mkdir(parents=True, exist_ok=True)
    chatter = logging.getLogger("absl")
    level = chatter.level
    chatter.setLevel(logging.CRITICAL)  # what fails is raised, and says so in one line
    try:
        with ocp.CheckpointManager(directory, options=options, item_handlers=handler) as manager:
            yield manager
    finally:
        chatter.setLevel(level)
