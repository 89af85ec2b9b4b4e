"""What a frame does at its sites: keep them, apply edits to them, or pass them through a function.

In a scan, a handler's `slices` go in with the weights, its `buffers` are carried, and `write` splits what a step saw into
those buffers and what is stacked over layers.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from interp_jax.taps.edits import Edit, apply_edit
from interp_jax.taps.frames import Layer, Seen, Span, TapError


class Handler:
    """Does something at `sites`. In a scan: `slices` go in, `buffers` are carried, `write` splits what a step saw."""

    def __init__(self, sites: dict[str, Any]):
        self.sites = sites

    def act(self, x: Any, site: str, layer: Layer | None) -> tuple[Any, Any]:
        """The value that goes on, and the value to keep."""
        raise NotImplementedError

    def slices(self, notes: dict[str, Seen], n: int) -> Any:
        return {}

    def check_layers(self, notes: dict[str, Seen], n: int, span: Span) -> None:
        """Raise where a layer is named that the scan does not run, as far as that is known."""

    def inside(self, slices: Any) -> "Handler":
        return self

    def buffers(self, notes: dict[str, Seen], n: int) -> dict[str, Any]:
        return {}

    def write(self, buffers: dict[str, Any], seen: dict[str, Seen], index: Any) -> tuple[Any, Any]:
        return buffers, {}


class Record(Handler):
    """Keeps each site; `sites` maps it to `...` or its layers."""

    def act(self, x: Any, site: str, layer: Layer | None) -> tuple[Any, Any]:
        if layer is None and self.sites[site] is not ...:
            raise TapError(f"{site!r} lies outside every scan over layers: record it with ..., not {self.sites[site]}")
        return x, x

    def buffers(self, notes: dict[str, Seen], n: int) -> dict[str, Any]:
        return {
            s: jnp.zeros((len(ls), *notes[s].value.shape), notes[s].value.dtype)
            for s, ls in self._chosen(notes).items()
        }

    def check_layers(self, notes: dict[str, Seen], n: int, span: Span) -> None:
        for site, layers in self._chosen(notes).items():
            _check_layers(site, layers, n, span)

    def _chosen(self, notes: dict[str, Seen]) -> dict[str, tuple[int, ...]]:
        """The sites of this scan of which a selection of layers is wanted."""
        return {s: ls for s, ls in self.sites.items() if s in notes and ls is not ... and not notes[s].layered}

    def write(self, buffers: dict[str, Any], seen: dict[str, Seen], index: Any) -> tuple[Any, Any]:
        written = {s: _put(buffer, seen[s].value, self.sites[s], index) for s, buffer in buffers.items()}
        return written, {s: v.value for s, v in seen.items() if s not in buffers}


class Apply(Handler):
    """Applies edits; `sites` maps each site to a tuple of them."""

    def act(self, x: Any, site: str, layer: Layer | None) -> tuple[Any, Any]:
        for one in self.sites[site]:
            x = apply_edit(one, x, site, *(layer or ()))
        return x, None

    def slices(self, notes: dict[str, Seen], n: int) -> Any:
        return {s: [_per_layer(s, e, n) for e in edits] for s, edits in self.sites.items() if s in notes}

    def check_layers(self, notes: dict[str, Seen], n: int, span: Span) -> None:
        for site, edits in self.sites.items():
            for one in edits if site in notes else ():
                if one.layer is not None and not isinstance(one.layer, jax.core.Tracer):
                    _check_layers(site, [int(one.layer)], n, span)

    def inside(self, slices: Any) -> Handler:
        sliced = {
            s: tuple(e if e_i is None else e_i for e, e_i in zip(self.sites[s], slices[s], strict=True))
            for s in slices
        }
        return Apply({**self.sites, **sliced})


class Call(Handler):
    """Passes each site through a function."""

    def act(self, x: Any, site: str, layer: Layer | None) -> tuple[Any, Any]:
        return self.sites[site](x, None if layer is None else layer.index), None


def _put(buffer: Any, value: Any, layers: tuple[int, ...], index: Any) -> Any:
    """Write `value` at the slot of layer `index`; a layer that was not asked for has none and is dropped."""
    slot = jnp.where(jnp.array(layers) == index, jnp.arange(len(layers)), len(layers)).min(initial=len(layers))
    return buffer.at[slot].set(value, mode="drop")


def _per_layer(site: str, one: Edit, n: int) -> Edit | None:
    """The edit as the scan slices it, leaves [L, ...]; None for an edit of one layer, which is not sliced."""
    if one.layer is not None:
        return None
    for leaf in jax.tree.leaves(one):
        if jnp.ndim(leaf) and jnp.shape(leaf)[0] != n:
            raise ValueError(
                f"edit of {site!r} names no layer, so its arrays start with a layer axis of {n}; got {jnp.shape(leaf)}"
            )
    return jax.tree.map(lambda leaf: leaf if jnp.ndim(leaf) else jnp.broadcast_to(leaf, (n,)), one)


def _check_layers(site: str, layers: Iterable[int], n: int, span: Span) -> None:
    first, stop = (bound if isinstance(bound, int) else all_of for bound, all_of in zip(span, (0, n), strict=True))
    if outside := [layer for layer in layers if not first <= layer < stop]:
        some = "" if (first, stop) == (0, n) else f", of which {first} to {stop - 1} are run here"
        raise TapError(f"{site!r} has layers 0 to {n - 1}{some}; asked for {', '.join(map(str, outside))}")
