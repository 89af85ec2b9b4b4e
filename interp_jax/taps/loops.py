"""Loops and rematerialisation for models: the body runs in fresh frames; what they saw leaves as ordinary outputs.

Each call makes a fresh closure, so no trace cache of JAX can stand in for it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from interp_jax.taps.frames import Frame, Layer, Seen, Span, frames, running
from interp_jax.taps.handlers import Record


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    length: int | None = None,
    first: ArrayLike = 0,
    stop: ArrayLike | None = None,
) -> Any:
    """`jax.lax.scan` whose body may hold taps: recorded sites gain a leading layer axis, edits are sliced over it.

    All layers of a site leave as the scan's stacked outputs; a selection of layers is written into a buffer of that
    many layers, which the loop carries. In nested scans a selection and `Edit.layer` speak of the innermost one.

    Only layers first … stop - 1 run, counted as the whole stack counts them. Where one of them is traced, the loop makes just
    as many turns; it has no reverse-mode derivative, and what it stacks has all layers, zeros in those that did not run.
    """
    outer = frames()
    n = jax.tree.leaves(xs)[0].shape[0] if length is None else length
    span = Span(first, n if stop is None else stop)
    if not outer:
        return _run(body, init, xs, n, span)
    notes = _discover(body, init, xs, outer)
    _require_same_trace(outer, notes)
    slices = [frame.handler.slices(notes, n) for frame in outer]
    buffers = [frame.handler.buffers(notes, n) for frame in outer]
    for frame in outer:
        frame.handler.check_layers(notes, n, span)

    def step(carry: Any, layer_inputs: Any) -> Any:
        (carry, buffers), (index, x, slices) = carry, layer_inputs
        inner = [Frame(f.handler.inside(s), Layer(index, *span)) for f, s in zip(outer, slices, strict=True)]
        with running(inner):
            carry, y = body(carry, x)
        split = [f.handler.write(b, f.seen, index) for f, b in zip(inner, buffers, strict=True)]
        return (carry, [b for b, _ in split]), (y, [stacked for _, stacked in split])

    (carry, buffers), (ys, stacked) = _run(step, (init, buffers), (jnp.arange(n), xs, slices), n, span)
    for frame, buffer, stack in zip(outer, buffers, stacked, strict=True):
        values = {**buffer, **stack}
        frame.keep({site: Seen(values.get(site), layered=True) for site in frame.wanted & notes.keys()})
    return carry, ys


def _run(step: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, n: int, span: Span) -> Any:
    """The layers of `span`, by a scan where its bounds are known, else by a loop of as many turns."""
    first, stop = span
    if isinstance(first, int) and isinstance(stop, int):
        return jax.lax.scan(step, init, jax.tree.map(lambda x: x[first:stop], xs), stop - first)

    def layer(i: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), xs)

    def turn(i: Any, state: Any) -> Any:
        carry, stacked = state
        carry, y = step(carry, layer(i))
        return carry, jax.tree.map(lambda s, y: jax.lax.dynamic_update_index_in_dim(s, y, i, 0), stacked, y)

    shapes = jax.eval_shape(step, init, layer(0))[1]
    stacked = jax.tree.map(lambda y: jnp.zeros((n, *y.shape), y.dtype), shapes)
    return jax.lax.fori_loop(first, stop, turn, (init, stacked))


def remat(body: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.checkpoint` of a body that may hold taps; what is recorded inside is kept, the rest is computed again."""

    def lifted(*args: Any) -> Any:
        outer = frames()
        if not outer:
            return jax.checkpoint(body)(*args)
        layered: list[dict[str, bool]] = []

        def pure(*args: Any) -> Any:
            inner = [Frame(frame.handler, frame.layer) for frame in outer]
            with running(inner):
                y = body(*args)
            for frame, within in zip(outer, inner, strict=True):
                frame.passed |= within.passed
            layered[:] = [{s: seen.layered for s, seen in within.seen.items()} for within in inner]
            return y, [{s: seen.value for s, seen in within.seen.items()} for within in inner]

        y, values = jax.checkpoint(pure)(*args)
        _require_same_trace(outer, set().union(*layered))
        for frame, flags, value in zip(outer, layered, values, strict=True):
            frame.keep({site: Seen(value[site], flags[site]) for site in flags})
        return y

    return lifted


def _require_same_trace(outer: list[Frame], sites: Iterable[str]) -> None:
    """Raise where a frame wants one of `sites` from another trace than this one: see `Frame.require_same_trace`."""
    for frame in outer:
        for site in sorted(frame.wanted.intersection(sites)):
            frame.require_same_trace(site)


def _discover(body: Callable[..., Any], init: Any, xs: Any, outer: list[Frame]) -> dict[str, Seen]:
    """Which requested sites the scan's body taps, and their shapes: found by tracing it once, abstractly."""
    sites = dict.fromkeys(frozenset().union(*(frame.wanted for frame in outer)), ...)
    notes: dict[str, Seen] = {}

    def trace(carry: Any, x: Any) -> Any:
        frame = Frame(Record(sites), Layer(0, 0, 0))
        with running([frame]):
            y = body(carry, x)
        notes.update({s: Seen(jax.eval_shape(jnp.asarray, v.value), v.layered) for s, v in frame.seen.items()})
        for waiting in outer:
            waiting.passed |= frame.passed
        return y

    jax.eval_shape(trace, init, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs))
    return notes
