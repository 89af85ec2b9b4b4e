"""Edits are data: what to do to an activation, as a pytree that `jit`, `vmap` and `grad` see like any other.

    edited = op(x, value)          result = x where not `where`, edited where it holds (a float `where` interpolates)

| op          | result                          | value                                                        |
|-------------|---------------------------------|--------------------------------------------------------------|
| replace     | v                               | broadcasts to the site's shape                               |
| add         | x + v                           | likewise                                                     |
| scale       | x * v                           | likewise                                                     |
| project_out | x - (x·v) v / (v·v)             | direction [..., D], broadcasts to the site's shape           |
| clamp       | x + (c - x·v / |v|) v / |v|     | pair (direction [..., D], level c that broadcasts to [..., 1]) |
| erase       | x - ((x - c) R) W               | triple (centre c [..., D], read R [..., D, K], write W [..., K, D]) |
| apply       | f(x), in x's shape              | `jax.tree_util.Partial(f, *arrays)`: f is static, its arrays are data |

`erase` takes a subspace out, or puts into it what `c` has there: of a mean, or of another example, which interchanges it.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from interp_jax.errors import nearest


@flax.struct.dataclass
class Edit:
    """One change of one site.

    Attributes:
      op: a name in `OPS`; static.
      value: the op's argument, an array or a pytree of arrays.
      where: mask that broadcasts to the site's shape (examples, positions, heads); bool selects, float in [0, 1]
        interpolates; None means everywhere.
      layer: for a site inside a scan over layers. None: `value` and `where` are stacked over layers, [L, ...] (scalars
        serve all layers). An integer, traced or not: they have no layer axis, and the edit acts at that layer alone;
        so a grid over layers is one program. A *traced* layer outside 0..L-1 turns the site into NaN, since nothing can
        be raised then; a concrete one raises. So does a layer that a scan over some layers leaves out.
    """

    op: str = flax.struct.field(pytree_node=False)
    value: Any = None
    where: Any = None
    layer: Any = None


def _replace(x: Array, value: Any) -> Array:
    return jnp.broadcast_to(value, x.shape)


def _add(x: Array, value: Any) -> Array:
    return x + value


def _scale(x: Array, value: Any) -> Array:
    return x * value


def _project_out(x: Array, direction: Any) -> Array:
    return x - _along(x, direction) * direction / _norm(direction)


def _clamp(x: Array, value: Any) -> Array:
    direction, level = value
    return x + (level - _along(x, direction)) * direction / _norm(direction)


def _erase(x: Array, value: Any) -> Array:
    centre, read, write = value
    there = jnp.einsum("...d,...dk->...k", x - centre, read, precision="highest")
    return x - jnp.einsum("...k,...kd->...d", there, write, precision="highest")


def _apply(x: Array, function: Any) -> Array:
    return function(x)


OPS = {
    "replace": _replace,
    "add": _add,
    "scale": _scale,
    "project_out": _project_out,
    "clamp": _clamp,
    "erase": _erase,
    "apply": _apply,
}


def _norm(direction: ArrayLike) -> Array:
    return jnp.linalg.norm(direction, axis=-1, keepdims=True)


def _along(x: Array, direction: ArrayLike) -> Array:
    return (x * direction).sum(-1, keepdims=True) / _norm(direction)


def apply_edit(
    edit: Edit, x: Array, site: str, layer: ArrayLike | None = None, first: ArrayLike = 0, stop: ArrayLike = 0
) -> Array:
    """`x` as the edit leaves it, in x's shape and dtype.

    Args:
      edit: its arrays without a layer axis.
      x: the activation at `site`.
      site: named in errors.
      layer: the scan's counter, or None outside a scan.
      first: the first layer that the scan runs.
      stop: the layer before which it ends.

    Raises:
      ValueError: unknown op; a value or mask that does not broadcast to x's shape; a function to apply that is none, or whose
        result has another shape; a layer for a site that has none.
    """
    if edit.op not in OPS:
        raise ValueError(f"unknown op {edit.op!r} at {site!r}: {nearest(edit.op, OPS)}")
    if edit.layer is not None and layer is None:
        raise ValueError(f"{site!r} lies outside every scan over layers: its edit takes no layer, got {edit.layer!r}")
    for name, shapes in (("value", _shapes(edit, site)), ("where", _shapes_of(edit.where))):
        for shape in shapes:
            _check_broadcast(shape, x.shape, site, name)
    edited = OPS[edit.op](x, jax.tree.map(jnp.asarray, edit.value)).astype(x.dtype)
    if edit.op == "apply" and edited.shape != x.shape:
        raise ValueError(f"edit of {site!r}: what is applied made {edited.shape} of the site's {x.shape}")
    if edit.where is not None:
        edited = _blend(edit.where, edited, x)
    if edit.layer is None:
        return edited
    inside = (edit.layer >= first) & (edit.layer < stop)
    return jnp.where(inside, jnp.where(edit.layer == layer, edited, x), jnp.asarray(jnp.nan).astype(x.dtype))


def _blend(where: ArrayLike, edited: Array, x: Array) -> Array:
    where = jnp.asarray(where)
    if where.dtype == jnp.bool_:
        return jnp.where(where, edited, x)
    return (x + where * (edited - x)).astype(x.dtype)


def _shapes_of(value: Any) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(value)]


def _shapes(edit: Edit, site: str) -> list[tuple[int, ...]]:
    """What must broadcast to the site's shape of an edit's value: all of it, matrices but for their axis K, no function."""
    if edit.op == "apply":
        if not isinstance(edit.value, jax.tree_util.Partial):
            raise ValueError(f"edit of {site!r}: apply takes a jax.tree_util.Partial, got {type(edit.value).__name__}")
        return []
    shapes = _shapes_of(edit.value)
    if edit.op != "erase":
        return shapes
    if len(shapes) != 3 or min(map(len, shapes[1:])) < 2 or shapes[1][-1] != shapes[2][-2]:
        raise ValueError(f"edit of {site!r}: erase takes [..., D], [..., D, K] and [..., K, D]; got {shapes}")
    centre, read, write = shapes
    return [centre, read[:-1], (*write[:-2], write[-1])]


def _check_broadcast(shape: tuple[int, ...], target: tuple[int, ...], site: str, name: str) -> None:
    try:
        fits = jnp.broadcast_shapes(shape, target) == target
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"edit of {site!r}: {name} has shape {shape}, which does not broadcast to the site's {target}"
        )
