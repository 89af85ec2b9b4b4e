"""What training left: the parameters of dictionaries, read from the last checkpoint of their chunk, verified."""

from pathlib import Path

import jax
import numpy as np

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.parameters import Params
from interp_jax.errors import InputError
from interp_jax.experiments.experiment import GroupResult
from interp_jax.results.checkpoints import BadCheckpoint, CheckpointStore
from interp_jax.results.run_directory import ChunkDirectory, read_json


def load_chunk(chunk: ChunkDirectory, cfg: Dictionary, step: int, n: int) -> Params:
    """The parameters of all n members of a chunk at a step, stacked.

    Raises:
      InputError: a checkpoint that is missing or damaged.
    """
    store = CheckpointStore(chunk.checkpoints, chunk.path.name.removesuffix(".old"))
    shapes = jax.eval_shape(lambda: dictionary.init(jax.random.key(0), cfg))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape), x.dtype), shapes)
    try:
        return store.load_branch(step, "params", like)
    except BadCheckpoint as problem:
        raise InputError(
            f"{chunk.checkpoints}: the last checkpoint, of step {step}, cannot be read ({problem}); train the dictionary"
            " again with --rerun"
        ) from None


def load_group(group: GroupResult) -> list[dict[str, np.ndarray]]:
    """The parameters of every member of a group at its last step.

    Raises:
      InputError: see `load_chunk`; or a manifest that is damaged.
    """
    own = jax.tree.map(lambda leaf: leaf[0].item(), group.config)
    chunks: dict[str, tuple[list[str], dict[str, np.ndarray]]] = {}
    found = []
    for name, path in zip(group.hashes, group.directories, strict=True):
        if path not in chunks:
            chunk = ChunkDirectory(Path(path))
            members = read_json(chunk.manifest, "members")["members"]
            params = jax.tree.map(np.asarray, load_chunk(chunk, own.dictionary, own.steps, len(members)))
            chunks[path] = members, params
        members, params = chunks[path]
        found.append({key: x[members.index(name)] for key, x in params.items()})
    return found
