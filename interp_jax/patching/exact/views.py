"""Parts of an activation that are exchanged alone: a direction, a subspace, the features of a dictionary.

    patched = x + decode(c) - decode(encode(x))          c = encode(source) where it is patched, else encode(x)

For a subspace with orthonormal basis B, encode(x) = Bᵀ x and decode(c) = B c, so that patched = x + B Bᵀ (source - x).
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from interp_jax.errors import InputError


@flax.struct.dataclass
class View:
    """A pair of functions of (data, activation [..., D]) and (data, coordinates [..., N]), and their data.

    Attributes:
      encode, decode: static; functions of a module, so that they compile once.
      data: a pytree of arrays.
      by_layer: whether every leaf of `data` has a leading L axis, a view for each layer; static.
      size: N, the number of coordinates; static.
    """

    encode: Callable[[Any, Array], Array] = flax.struct.field(pytree_node=False)
    decode: Callable[[Any, Array], Array] = flax.struct.field(pytree_node=False)
    data: Any = None
    by_layer: bool = flax.struct.field(pytree_node=False, default=False)
    size: int = flax.struct.field(pytree_node=False, default=0)

    def at(self, layer: Any) -> Any:
        """The data of one layer."""
        if not self.by_layer:
            return self.data
        return jax.tree.map(lambda d: jax.lax.dynamic_index_in_dim(d, layer, keepdims=False), self.data)

    def exchange(self, x: Array, source: Array, where: Array, layer: Any) -> Array:
        """`x` with the coordinates of `source` where `where` (broadcasts to [..., N]) holds."""
        data = self.at(layer)
        own = self.encode(data, x)
        mixed = jnp.where(where, self.encode(data, source), own)
        return (x + self.decode(data, mixed) - self.decode(data, own)).astype(x.dtype)


def subspace(basis: Float[Array | np.ndarray, "*L D N"]) -> View:
    """The span of orthonormal columns: [D N], or [L D N] with a basis for each layer.

    Raises:
      InputError: columns that are not orthonormal.
    """
    basis = jnp.asarray(basis)
    gram = np.einsum("...dn,...dm->...nm", np.asarray(basis, np.float64), np.asarray(basis, np.float64))
    worst = float(np.abs(gram - np.eye(gram.shape[-1])).max())
    if worst > 1e-3:
        raise InputError(
            f"the basis {basis.shape} is off orthonormal columns by {worst:.2g}: orthonormalise it (QR) first"
        )
    return View(_coordinates, _combined, basis, basis.ndim == 3, basis.shape[-1])


def direction(vector: Float[Array | np.ndarray, "*L D"]) -> View:
    """One direction [D], or one for each layer [L D], of any length but 0."""
    vector = jnp.asarray(vector)
    length = jnp.linalg.norm(vector, axis=-1, keepdims=True)
    if not bool((length > 0).all()):
        raise InputError(f"a direction {vector.shape} of length 0 points nowhere")
    return subspace((vector / length)[..., None])


def features(
    encode: Callable[[Any, Array], Array],
    decode: Callable[[Any, Array], Array],
    data: Any,
    size: int,
    by_layer: bool = False,
) -> View:
    """The features of a dictionary, by its own functions."""
    return View(encode, decode, data, by_layer, size)


def one_place_later(view: View) -> View:
    """A view by layer for the stream counted from before the first layer: after layer l is place l + 1."""
    return view.replace(data=jax.tree.map(lambda d: jnp.concatenate([d[:1], d]), view.data)) if view.by_layer else view


def check_view(view: View | None, width: int, site: str, n_layers: int) -> None:
    """Raise `InputError` where a view does not fit a site's activations of this width, or the model's layers."""
    if view is None:
        return
    if not width:
        raise InputError(f"{site!r} is no vector: it has no directions")
    if view.encode is _coordinates and view.data.shape[-2] != width:
        raise InputError(f"the basis has {view.data.shape[-2]} rows; {site!r} has width {width}")
    leaves = jax.tree.leaves(view.data)
    if view.by_layer and (bad := [np.shape(leaf) for leaf in leaves if np.shape(leaf)[:1] != (n_layers,)]):
        raise InputError(f"a view by layer has data of shape {bad[0]}; the model has {n_layers} layers")
    x = jax.ShapeDtypeStruct((1, width), jnp.float32)
    try:
        coordinates, back = jax.eval_shape(_there_and_back, view, x)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the view cannot encode {site!r}, of width {width}, and decode it: {reason}") from error
    if coordinates.shape != (1, view.size) or back.shape != x.shape:
        raise InputError(
            f"the view makes {coordinates.shape[1:]} of {site!r}, of width {width}, and {back.shape[1:]} of that again: "
            f"its size is {view.size}"
        )


def _there_and_back(view: View, x: Array) -> tuple[Array, Array]:
    data = view.at(0)
    coordinates = view.encode(data, x)
    return coordinates, view.decode(data, coordinates)


def _coordinates(basis: Array, x: Array) -> Array:
    return x @ basis.astype(x.dtype)


def _combined(basis: Array, coordinates: Array) -> Array:
    return coordinates @ basis.T.astype(coordinates.dtype)
