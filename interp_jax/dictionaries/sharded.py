"""One dictionary that is larger than a device (`train/mesh.py`): features over one axis, examples over the other.

    mesh ("data", "model")          W_enc, W_dec [F …]: rows over "model"     x [B D]: rows over "data"     b_dec: everywhere
                                    moments and counters: as what they belong to

A step is the one that a population takes, compiled for arrays that lie so: the encoder needs no communication, what is
said is summed over "model", gradients over "data". Per step that is B·D numbers over "model" and 2·F·D/n of gradients over
"data", n the shards of features. Which features are active is found where they lie (`over_mesh.py`): of each example k values
are sent by each shard of features, k_aux of them for the auxiliary loss where features are dead, and one count of BatchTopK.
Prefixes of Matryoshka that end within a shard are sent to be multiplied. Products are dense: `sparse` ones would fetch rows
from other devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError
from interp_jax.train.mesh import DATA, MODEL
from interp_jax.train.mesh import on_mesh as train_on_mesh
from interp_jax.train.mesh import shardings as mesh_shardings
from interp_jax.train.run import Run, RunState

RULES = [(r"(^|\.)(W_enc|W_dec|b_enc|r_mag|b_mag|log_threshold|threshold|silent)(\.|$)", P(MODEL))]


def check_sharded(cfg: Dictionary, mesh: Mesh) -> None:
    """Raise `InputError` for a dictionary that cannot lie on a mesh."""
    n = mesh.shape[MODEL]
    if cfg.n_features % n:
        below = cfg.n_features // n * n
        raise InputError(
            f"dictionary.n_features = {cfg.n_features}: not divisible by the {n} devices over which features lie; the nearest "
            f"are {below} and {below + n}"
        )
    if cfg.kind == "cross_layer":
        raise InputError("dictionary.kind: features of a cross-layer transcoder lie layer by layer; it is not sharded")
    if cfg.is_by_k and cfg.products != "dense":
        raise InputError(f"dictionary.products = {cfg.products!r}: a dictionary over several devices has 'dense' ones")


def shardings(state: RunState, cfg: Dictionary, mesh: Mesh) -> RunState:
    """Where each leaf of a run's state lies.

    Raises:
      InputError: see `check_sharded`.
    """
    check_sharded(cfg, mesh)
    return mesh_shardings(state, RULES, mesh)


def placed(state: RunState, cfg: Dictionary, mesh: Mesh) -> RunState:
    """A run's state laid out over the mesh: copies, since `sharded_advance` takes their memory, and tied rows are one array."""
    return jax.device_put(jax.tree.map(jnp.copy, state), shardings(state, cfg, mesh), may_alias=False)


def sharded_advance(run: Run, state: RunState, cfg: Dictionary, mesh: Mesh) -> Any:
    """`advance` of a run whose state is `placed`, and whose shared data has examples along its axis -2.

    Returns:
      A jitted (state, hypers, span, shared) -> (state, metrics) that takes the memory of `state`.
    """
    where = shardings(state, cfg, mesh)
    return jax.jit(on_mesh(run, mesh).advance, out_shardings=(where, NamedSharding(mesh, P())), donate_argnums=0)


def on_mesh(run: Run, mesh: Mesh) -> Run:
    """The run, examples of its shared data, along axis -2, over "data"; the kinds know of the mesh by `mesh_here`."""
    over = train_on_mesh(run, mesh)

    def advance(state: RunState, hypers: Any, span: Any, shared: Any) -> Any:
        along = lambda x: P(*(None,) * (x.ndim - 2), DATA) if np.ndim(x) >= 2 else P()
        shared = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh, along(x))), shared)
        return over.advance(state, hypers, span, shared)

    return Run(run.init, advance)
