"""One dictionary that is larger than a device: features over one axis of a mesh, examples over the other.

    mesh ("data", "feature")        W_enc, W_dec [F …]: rows over "feature"     x [B D]: rows over "data"     b_dec: everywhere
                                    moments and counters: as what they belong to

A step is the one that a population takes, compiled for arrays that lie so: the encoder needs no communication, what is
said is summed over "feature", gradients over "data". Per step that is B·D numbers over "feature" and 2·F·D/n of gradients over
"data", n the shards of features. Which features are active is found where they lie (`over_mesh.py`): of each example k values
are sent by each shard of features, k_aux of them for the auxiliary loss where features are dead, and one count of BatchTopK.
Prefixes of Matryoshka that end within a shard are sent to be multiplied. Products are dense: `sparse` ones would fetch rows
from other devices.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError
from interp_jax.train.run import Run, RunState

PER_FEATURE = ("W_enc", "W_dec", "b_enc", "r_mag", "b_mag", "log_threshold", "silent")
EVERYWHERE = ("b_dec", "W_skip")


def dictionary_mesh(data: int, feature: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """`data` times `feature` devices.

    Raises:
      InputError: there are not so many.
    """
    devices = jax.devices() if devices is None else devices
    if data < 1 or feature < 1 or data * feature > len(devices):
        raise InputError(f"mesh: {data} × {feature} devices were asked for; there are {len(devices)}")
    grid = np.array(devices[: data * feature]).reshape(data, feature)
    return Mesh(grid, ("data", "feature"), axis_types=(AxisType.Auto,) * 2)


def check_sharded(cfg: Dictionary, mesh: Mesh) -> None:
    """Raise `InputError` for a dictionary that cannot lie on a mesh."""
    n = mesh.shape["feature"]
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

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names = [str(getattr(key, "key", getattr(key, "name", ""))) for key in path]
        spread = any(name in PER_FEATURE for name in names) or ("threshold" in names and np.ndim(leaf))
        return NamedSharding(mesh, P("feature") if spread else P())

    return jax.tree_util.tree_map_with_path(place, state)


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
    """The run, examples of its shared data, along axis -2, over "data"."""

    def advance(state: RunState, hypers: Any, span: Any, shared: Any) -> Any:
        along = lambda x: P(*(None,) * (x.ndim - 2), "data") if np.ndim(x) >= 2 else P()
        shared = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh, along(x))), shared)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # by which the kinds know: `over_mesh.mesh_here`
            return run.advance(state, hypers, span, shared)

    return Run(run.init, advance)
