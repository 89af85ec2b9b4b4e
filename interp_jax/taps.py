"""Taps: name an activation where it is computed, then record it or edit it from outside.

A model calls `tap(x, "site")` where something is worth seeing and knows nothing else of analysis. Two function
transformations, in the manner of `jax.grad`, do the rest:

    logits, acts = record(model, {"blocks.resid_post": (3, 5), "embed": ...})(params, tokens)
    logits       = edit(model)({"blocks.resid_post": Edit("add", v, layer=3)}, params, tokens)

The mechanism is a thread-local stack of frames, one per transformation whose function is running.

1. A frame remembers the JAX trace that it began in. A requested site tapped in any other trace raises, so that nothing
   edited or recorded can enter a JAX cache, and nothing cached can pass for edited.
2. When the function returns, every requested site must have been reached exactly once, or the frame raises.
3. Loops and rematerialisation go through `scan` and `remat`, which run the body in fresh frames and hand out what those
   saw as ordinary outputs. `jit`, `vmap`, `grad`, `shard_map` go *outside* of record and edit.
4. The inner transformation acts first: `record(edit(m))` sees edited values, `edit(record(m))` raw ones.
"""

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from interp_jax.edits import Edit, apply_edit
from interp_jax.errors import nearest

__all__ = ["Edit", "TapError", "edit", "edit_with", "record", "remat", "scan", "tap", "wants"]

Layers = tuple[int, ...] | EllipsisType
Edits = Mapping[str, Edit | Sequence[Edit]]


class TapError(ValueError):
    """A requested site was unknown, unreached, reached twice, or tapped where a transformation cannot see it."""


class _Layer(NamedTuple):
    """Where a frame stands: iteration `index` (traced) of a scan of length `n`."""

    index: Any
    n: int


class _Seen(NamedTuple):
    """What a frame keeps of a site; `layered` once a scan has given the value its layer axis."""

    value: Any
    layered: bool = False


class _Frame:
    """One record or edit, alive while its function runs; `scan` and `remat` make further ones for their bodies."""

    def __init__(self, handler: Any, layer: _Layer | None = None):
        self.handler, self.layer = handler, layer
        self.wanted: frozenset[str] = frozenset(handler.sites)
        self.seen: dict[str, _Seen] = {}
        self.passed: set[str] = set()
        self.trace = _current_trace()

    def tap(self, x: Any, site: str) -> Any:
        self.passed.add(site)
        if site not in self.wanted:
            return x
        if self.trace != _current_trace() or _in_custom_derivative(self):
            raise TapError(
                f"{site!r} is tapped inside a jit, vmap, grad, scan, checkpoint, cond or custom derivative that began "
                "within record or edit: move that transformation outside, or use taps.scan or taps.remat"
            )
        x, kept = self.handler.act(x, site, self.layer)
        self.keep({site: _Seen(kept)})
        return x

    def keep(self, seen: Mapping[str, _Seen]) -> None:
        if twice := sorted(seen.keys() & self.seen.keys()):
            raise TapError(f"tapped twice: {', '.join(map(repr, twice))}; a site must be reached exactly once")
        self.seen.update(seen)


_here = threading.local()
_CUSTOM_DERIVATIVES = inspect.getfile(jax.custom_vjp)


def _stack() -> list[_Frame]:
    return _here.__dict__.setdefault("stack", [])


def _current_trace() -> Any:
    return get_opaque_trace_state(convention="interp_jax")


def _in_custom_derivative(frame: _Frame) -> bool:
    """Whether a `custom_vjp` or `custom_jvp` function runs between the frame's transformation and here.

    Under a trace JAX traces such functions apart, which the trace state shows. Eagerly it just calls them, and only the
    Python stack tells; refusing there too keeps one rule whether or not `jit` or `grad` lies outside.
    """
    transformations = len(_stack()) - _stack().index(frame)
    caller = sys._getframe(1)
    while caller is not None and transformations:
        if caller.f_code.co_filename == _CUSTOM_DERIVATIVES:
            return True
        transformations -= (caller.f_code.co_filename, caller.f_code.co_name) == (__file__, _run.__name__)
        caller = caller.f_back
    return False


@contextlib.contextmanager
def _frames(frames: list[_Frame]) -> Iterator[None]:
    outside, _here.stack = _stack(), frames
    try:
        yield
    finally:
        _here.stack = outside


# ---------------------------------------------------------------------------------------------- in models


def tap(x: Any, site: str) -> Any:
    """Name the activation `x`. Returns it unchanged unless an `edit` around the model says otherwise."""
    for frame in reversed(_stack()):
        x = frame.tap(x, site)
    return x


def wants(site: str) -> bool:
    """Whether some transformation asks for `site`: build a costly activation only where this holds."""
    return any(site in frame.wanted for frame in _stack())


def scan(body: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, length: int | None = None) -> Any:
    """`jax.lax.scan` whose body may hold taps: recorded sites gain a leading layer axis, edits are sliced over it.

    All layers of a site leave as the scan's stacked outputs; a selection of layers is written into a buffer of that many
    layers, which the loop carries. In nested scans a selection and `Edit.layer` speak of the innermost one.
    """
    outer = _stack()
    if not outer:
        return jax.lax.scan(body, init, xs, length)
    n = jax.tree.leaves(xs)[0].shape[0] if length is None else length
    notes = _discover(body, init, xs, outer)
    slices = [frame.handler.slices(notes, n) for frame in outer]
    buffers = [frame.handler.buffers(notes, n) for frame in outer]

    def step(carry: Any, layer_inputs: Any) -> Any:
        (carry, buffers), (index, x, slices) = carry, layer_inputs
        inner = [_Frame(f.handler.inside(s), _Layer(index, n)) for f, s in zip(outer, slices, strict=True)]
        with _frames(inner):
            carry, y = body(carry, x)
        split = [f.handler.write(b, f.seen, index) for f, b in zip(inner, buffers, strict=True)]
        return (carry, [b for b, _ in split]), (y, [stacked for _, stacked in split])

    (carry, buffers), (ys, stacked) = jax.lax.scan(step, (init, buffers), (jnp.arange(n), xs, slices), length)
    for frame, buffer, stack in zip(outer, buffers, stacked, strict=True):
        values = {**buffer, **stack}
        frame.keep({site: _Seen(values.get(site), layered=True) for site in frame.wanted & notes.keys()})
    return carry, ys


def remat(body: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.checkpoint` of a body that may hold taps; what is recorded inside is kept, the rest is computed again."""

    def lifted(*args: Any) -> Any:
        outer = _stack()
        if not outer:
            return jax.checkpoint(body)(*args)
        layered: list[dict[str, bool]] = []

        def pure(*args: Any) -> Any:
            inner = [_Frame(frame.handler, frame.layer) for frame in outer]
            with _frames(inner):
                y = body(*args)
            for frame, within in zip(outer, inner, strict=True):
                frame.passed |= within.passed
            layered[:] = [{s: seen.layered for s, seen in within.seen.items()} for within in inner]
            return y, [{s: seen.value for s, seen in within.seen.items()} for within in inner]

        y, values = jax.checkpoint(pure)(*args)
        for frame, flags, value in zip(outer, layered, values, strict=True):
            frame.keep({site: _Seen(value[site], flags[site]) for site in flags})
        return y

    return lifted


def _discover(body: Callable[..., Any], init: Any, xs: Any, outer: list[_Frame]) -> dict[str, _Seen]:
    """Which requested sites the scan's body taps, and their shapes: found by tracing it once, abstractly."""
    sites = dict.fromkeys(frozenset().union(*(frame.wanted for frame in outer)), ...)
    notes: dict[str, _Seen] = {}

    def trace(carry: Any, x: Any) -> Any:
        frame = _Frame(_Record(sites), _Layer(0, 0))
        with _frames([frame]):
            y = body(carry, x)
        notes.update({s: _Seen(jax.eval_shape(jnp.asarray, v.value), v.layered) for s, v in frame.seen.items()})
        for waiting in outer:
            waiting.passed |= frame.passed
        return y

    jax.eval_shape(trace, init, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs))
    return notes


# ------------------------------------------------------------------------------------- in analysis


def record(
    function: Callable[..., Any], sites: Mapping[str, Layers] | Iterable[str]
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Transform `function(*args) -> y` into `recorded(*args) -> (y, {site: activation})`.

    Args:
      function: calls `tap`.
      sites: names, or a mapping of names to `...` (all) or a tuple of layers; layers are kept in the order given. A site
        inside `scan` gets a leading layer axis.

    Raises:
      TapError: when called, for a site that is unknown, unreached, reached twice or out of sight.
    """
    layers = (
        dict(sites) if isinstance(sites, Mapping) else dict.fromkeys([sites] if isinstance(sites, str) else sites, ...)
    )
    for site, selection in layers.items():
        if selection is not ... and (not isinstance(selection, tuple) or len(set(selection)) != len(selection)):
            raise TapError(f"layers of {site!r} must be ... or a tuple of distinct integers, got {selection!r}")

    def recorded(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        y, frame = _run(_Record(layers), function, *args, **kwargs)
        return y, {site: frame.seen[site].value for site in layers}

    return recorded


def edit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Transform `function(*args)` into `edited(edits, *args)`, where edits is `{site: Edit or sequence of Edit}`.

    Several edits of a site act in order. Gradients at sites are gradients with respect to `Edit("add", zeros)`.

    Raises:
      TapError: as `record`. ValueError: as `apply_edit`.
    """

    def edited(edits: Edits, *args: Any, **kwargs: Any) -> Any:
        edits = {site: (e,) if isinstance(e, Edit) else tuple(e) for site, e in edits.items()}
        return _run(_Apply(edits), function, *args, **kwargs)[0]

    return edited


def edit_with(function: Callable[..., Any], functions: Mapping[str, Callable[[Any, Any], Any]]) -> Callable[..., Any]:
    """Transform `function` so that each named site passes through `functions[site](x, layer)`; layer is None or traced.

    Use it for what no `Edit` expresses: every new function is a new compilation.
    """

    def edited(*args: Any, **kwargs: Any) -> Any:
        return _run(_Call(dict(functions)), function, *args, **kwargs)[0]

    return edited


def _run(handler: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, _Frame]:
    frame = _Frame(handler)
    with _frames([*_stack(), frame]):
        y = function(*args, **kwargs)
    if missed := sorted(frame.wanted - frame.seen.keys()):
        hints = "; ".join(f"{site!r}: {nearest(site, frame.passed - frame.wanted)}" for site in missed)
        raise TapError(f"never reached (no such site here, or inside a function that JAX had already traced): {hints}")
    return y, frame


# ------------------------------------------------------------------------- what a frame does at its sites


class _Handler:
    """Does something at `sites`. In a scan: `slices` go in, `buffers` are carried, `write` splits what a step saw."""

    def __init__(self, sites: dict[str, Any]):
        self.sites = sites

    def act(self, x: Any, site: str, layer: _Layer | None) -> tuple[Any, Any]:
        """The value that goes on, and the value to keep."""
        raise NotImplementedError

    def slices(self, notes: dict[str, _Seen], n: int) -> Any:
        return {}

    def inside(self, slices: Any) -> "_Handler":
        return self

    def buffers(self, notes: dict[str, _Seen], n: int) -> dict[str, Any]:
        return {}

    def write(self, buffers: dict[str, Any], seen: dict[str, _Seen], index: Any) -> tuple[Any, Any]:
        return buffers, {}


class _Record(_Handler):
    """Keeps each site; `sites` maps it to `...` or its layers."""

    def act(self, x: Any, site: str, layer: _Layer | None) -> tuple[Any, Any]:
        if layer is None and self.sites[site] is not ...:
            raise TapError(f"{site!r} lies outside every scan over layers: record it with ..., not {self.sites[site]}")
        return x, x

    def buffers(self, notes: dict[str, _Seen], n: int) -> dict[str, Any]:
        chosen = {s: ls for s, ls in self.sites.items() if s in notes and ls is not ... and not notes[s].layered}
        for site, layers in chosen.items():
            _check_layers(site, layers, n)
        return {s: jnp.zeros((len(ls), *notes[s].value.shape), notes[s].value.dtype) for s, ls in chosen.items()}

    def write(self, buffers: dict[str, Any], seen: dict[str, _Seen], index: Any) -> tuple[Any, Any]:
        written = {s: _put(buffer, seen[s].value, self.sites[s], index) for s, buffer in buffers.items()}
        return written, {s: v.value for s, v in seen.items() if s not in buffers}


class _Apply(_Handler):
    """Applies edits; `sites` maps each site to a tuple of them."""

    def act(self, x: Any, site: str, layer: _Layer | None) -> tuple[Any, Any]:
        for one in self.sites[site]:
            x = apply_edit(one, x, site, *(layer or ()))
        return x, None

    def slices(self, notes: dict[str, _Seen], n: int) -> Any:
        return {s: [_per_layer(s, e, n) for e in edits] for s, edits in self.sites.items() if s in notes}

    def inside(self, slices: Any) -> _Handler:
        sliced = {
            s: tuple(e if e_i is None else e_i for e, e_i in zip(self.sites[s], slices[s], strict=True))
            for s in slices
        }
        return _Apply({**self.sites, **sliced})


class _Call(_Handler):
    """Passes each site through a function."""

    def act(self, x: Any, site: str, layer: _Layer | None) -> tuple[Any, Any]:
        return self.sites[site](x, None if layer is None else layer.index), None


def _put(buffer: Any, value: Any, layers: tuple[int, ...], index: Any) -> Any:
    """Write `value` at the slot of layer `index`; a layer that was not asked for has none and is dropped."""
    slot = jnp.where(jnp.array(layers) == index, jnp.arange(len(layers)), len(layers)).min(initial=len(layers))
    return buffer.at[slot].set(value, mode="drop")


def _per_layer(site: str, one: Edit, n: int) -> Edit | None:
    """The edit as the scan slices it, leaves [L, ...]; None for an edit of one layer, which is not sliced."""
    if one.layer is not None:
        if not isinstance(one.layer, jax.core.Tracer):
            _check_layers(site, [int(one.layer)], n)
        return None
    for leaf in jax.tree.leaves(one):
        if jnp.ndim(leaf) and jnp.shape(leaf)[0] != n:
            raise ValueError(
                f"edit of {site!r} names no layer, so its arrays start with a layer axis of {n}; got {jnp.shape(leaf)}"
            )
    return jax.tree.map(lambda leaf: leaf if jnp.ndim(leaf) else jnp.broadcast_to(leaf, (n,)), one)


def _check_layers(site: str, layers: Iterable[int], n: int) -> None:
    if outside := [layer for layer in layers if not 0 <= layer < n]:
        raise TapError(f"{site!r} has layers 0 to {n - 1}; asked for {', '.join(map(str, outside))}")
