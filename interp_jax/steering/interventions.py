"""What is done with a direction, as edits of a site: data, which compose, and are in force during generation with its cache.

    added            x + v                                                    at examples and positions `where`
    held             x + (c - x·u) u                                          u of length 1: what x says along it becomes c
    gated            x + v where x·w + b > 0, else x                          a probe (w, b) opens it, per example and position
    low_rank         x + (x R + b) W                                          what LoReFT learns; see `fine_tuning.py`
    feature_held     x + decode(f') - decode(f),  f = encode(x), f'ᵢ = c      a dictionary's feature; its error stays (Templeton
                                                                              et al. 2024)

A condition that is read elsewhere than where it is steered, such as on the prompt alone (Lee et al. 2024), is a `where`:
`prompt_gate` makes one of scores, [B 1 1], which every later pass of generation obeys too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from interp_jax.taps import Edit

Edits = Mapping[str, Edit | Sequence[Edit]]
Dose = Float[Array | np.ndarray, "..."] | np.floating | float


def added(
    direction: Float[Array | np.ndarray, "... D"], dose: Dose = 1.0, layer: Any = None, where: Any = None
) -> Edit:
    """Adds `dose` times the direction; `layer` and `where` as in `taps.Edit`."""
    return Edit("add", jnp.asarray(dose)[..., None] * direction, where, layer)


def held(direction: Float[Array | np.ndarray, "... D"], level: Dose, layer: Any = None, where: Any = None) -> Edit:
    """Sets what activations say along a direction."""
    return Edit("clamp", (direction, jnp.asarray(level)[..., None]), where, layer)


def gated(
    direction: Float[Array | np.ndarray, "... D"], probe: Any, dose: Dose = 1.0, layer: Any = None, where: Any = None
) -> Edit:
    """Adds `dose` times the direction at each example and position of which the probe says yes, and nothing elsewhere.

    Args:
      direction: what is added.
      probe: has `weights` [D] and `bias`: it says yes where x · weights + bias > 0. It reads the site as this edit finds it.
      dose: of the direction.
      layer: as in `taps.Edit`.
      where: likewise.
    """
    value = jnp.asarray(dose)[..., None] * direction
    return Edit("apply", Partial(_add_where, value, jnp.asarray(probe.weights), jnp.asarray(probe.bias)), where, layer)


def _add_where(value: Array, weights: Array, bias: Array, x: Array) -> Array:
    score = jnp.einsum("...d,...d->...", x, weights, precision="highest") + bias
    return jnp.where((score > 0)[..., None], x + value, x)


def low_rank(
    read: Float[Array | np.ndarray, "... D K"],
    offset: Float[Array | np.ndarray, "... K"],
    write: Float[Array | np.ndarray, "... K D"],
    dose: Dose = 1.0,
    layer: Any = None,
    where: Any = None,
) -> Edit:
    """Adds `dose` times what is written of what is read, plus the offset."""
    return Edit("apply", Partial(_add_read, read, offset, jnp.asarray(dose)[..., None, None] * write), where, layer)


def _add_read(read: Array, offset: Array, write: Array, x: Array) -> Array:
    said = jnp.einsum("...d,dk->...k", x, read, precision="highest") + offset
    return x + jnp.einsum("...k,kd->...d", said, write, precision="highest")


def feature_held(
    encode: Callable[[Any, Array], Array],
    decode: Callable[[Any, Array], Array],
    params: Any,
    feature: Any,
    level: Dose,
    layer: Any = None,
    where: Any = None,
) -> Edit:
    """Sets a feature of a dictionary; what the dictionary leaves out stays as it is.

    Args:
      encode: (params, x [B D]) -> features [B F]; static, so give the same function again to use the same program.
      decode: (params, features [B F]) -> [B D]; likewise.
      params: of the dictionary, of arrays.
      feature: its index, which may be traced.
      level: what it becomes.
      layer: as in `taps.Edit`.
      where: likewise.
    """
    function = Partial(_feature_held, Functions(encode, decode), params, jnp.asarray(feature), jnp.asarray(level))
    return Edit("apply", function, where, layer)


@jax.tree_util.register_static
class Functions:
    """A dictionary's two functions, which are equal where these are."""

    def __init__(self, encode: Callable[[Any, Array], Array], decode: Callable[[Any, Array], Array]):
        self.encode, self.decode = encode, decode

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Functions) and (self.encode, self.decode) == (other.encode, other.decode)

    def __hash__(self) -> int:
        return hash((self.encode, self.decode))


def _feature_held(of: Functions, params: Any, feature: Array, level: Array, x: Array) -> Array:
    rows = x.reshape(-1, x.shape[-1])
    f = of.encode(params, rows)
    changed = jnp.where(jnp.arange(f.shape[-1]) == feature, level.astype(f.dtype), f)
    return x + (of.decode(params, changed) - of.decode(params, f)).reshape(x.shape)


def prompt_gate(
    scores: Float[Array | np.ndarray, "B P"], counts: Bool[Array | np.ndarray, "B P"] | None = None
) -> Bool[Array, "B 1 1"]:
    """Of each prompt by itself, whether any of its positions that count has a score above 0: a `where` for edits.

    Args:
      scores: of a probe at each position of the prompts.
      counts: positions that count, such as those that are no padding; None for all.
    """
    yes = jnp.asarray(scores) > 0
    return (yes if counts is None else yes & counts).any(1)[:, None, None]


def together(*edits: Edits) -> dict[str, tuple[Edit, ...]]:
    """All edits, by site; those of one site act in the order given."""
    found: dict[str, tuple[Edit, ...]] = {}
    for some in edits:
        for site, own in some.items():
            found[site] = (*found.get(site, ()), *((own,) if isinstance(own, Edit) else own))
    return found
