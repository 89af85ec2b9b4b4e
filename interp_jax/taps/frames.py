"""The frames of running transformations: a thread-local stack, and the guards that make a tap honest.

A frame remembers the JAX trace that it began in. A requested site tapped in any other trace raises, so that nothing
edited or recorded can enter a JAX cache, and nothing cached can pass for edited.
"""

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax.extend.core import get_opaque_trace_state

from interp_jax.errors import nearest


class TapError(ValueError):
    """A requested site was unknown, unreached, reached twice, or tapped where a transformation cannot see it."""


class Span(NamedTuple):
    """The layers that a scan runs: first … stop - 1; either bound may be traced."""

    first: Any
    stop: Any


class Layer(NamedTuple):
    """Where a frame stands: layer `index` (traced) of a scan over layers first … stop - 1."""

    index: Any
    first: Any
    stop: Any


class Seen(NamedTuple):
    """What a frame keeps of a site; `layered` once a scan has given the value its layer axis."""

    value: Any
    layered: bool = False


class Frame:
    """One record or edit, alive while its function runs; `scan` and `remat` make further ones for their bodies."""

    def __init__(self, handler: Any, layer: Layer | None = None):
        self.handler, self.layer = handler, layer
        self.wanted: frozenset[str] = frozenset(handler.sites)
        self.seen: dict[str, Seen] = {}
        self.passed: set[str] = set()
        self.trace = current_trace()

    def tap(self, x: Any, site: str) -> Any:
        """What goes on at a site: `x`, or what the handler makes of it where the site is wanted."""
        self.passed.add(site)
        if site not in self.wanted:
            return x
        self.require_same_trace(site)
        x, kept = self.handler.act(x, site, self.layer)
        self.keep({site: Seen(kept)})
        return x

    def reaches_here(self) -> bool:
        """Whether no transformation of JAX began between this frame and here."""
        return self.trace == current_trace() and not _in_custom_derivative(self)

    def require_same_trace(self, site: str) -> None:
        """Raise where one did: what is done would enter its cache."""
        if not self.reaches_here():
            raise TapError(
                f"{site!r} is tapped inside a jit, vmap, grad, scan, checkpoint, cond or custom derivative that began "
                "within record or edit: move that transformation outside, or use taps.scan or taps.remat"
            )

    def keep(self, seen: Mapping[str, Seen]) -> None:
        """Add what was seen; a site that is there already was tapped twice."""
        if twice := sorted(seen.keys() & self.seen.keys()):
            raise TapError(f"tapped twice: {', '.join(map(repr, twice))}; a site must be reached exactly once")
        self.seen.update(seen)


_here = threading.local()
_CUSTOM_DERIVATIVES = inspect.getfile(jax.custom_vjp)


def frames() -> list[Frame]:
    """The frames of this thread, outermost first."""
    return _here.__dict__.setdefault("stack", [])


def current_trace() -> Any:
    """A token of the JAX trace we are in; equal tokens, same trace."""
    return get_opaque_trace_state(convention="interp_jax")


def _in_custom_derivative(frame: Frame) -> bool:
    """Whether a `custom_vjp` or `custom_jvp` function runs between the frame's transformation and here.

    Under a trace JAX traces such functions apart, which the trace state shows. Eagerly it just calls them, and only
    the Python stack tells; refusing there too keeps one rule whether or not `jit` or `grad` lies outside.
    """
    transformations = len(frames()) - frames().index(frame)
    caller = sys._getframe(1)
    while caller is not None and transformations:
        if caller.f_code.co_filename == _CUSTOM_DERIVATIVES:
            return True
        transformations -= (caller.f_code.co_filename, caller.f_code.co_name) == (__file__, run.__name__)
        caller = caller.f_back
    return False


@contextlib.contextmanager
def running(stack: list[Frame]) -> Iterator[None]:
    """Puts `stack` in the place of the thread's frames for the block, whatever happens in it."""
    outside, _here.stack = frames(), stack
    try:
        yield
    finally:
        _here.stack = outside


def tap(x: Any, site: str) -> Any:
    """Name the activation `x`. Returns it unchanged unless an `edit` around the model says otherwise."""
    for frame in reversed(frames()):
        x = frame.tap(x, site)
    return x


def wants(site: str) -> bool:
    """Whether some transformation asks for `site`: build a costly activation only where this holds."""
    return any(site in frame.wanted for frame in frames())


def run(handler: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, Frame]:
    """Call `function` within one more frame; its result, and the frame, which has reached every site it wanted."""
    frame = Frame(handler)
    with running([*frames(), frame]):
        y = function(*args, **kwargs)
    if missed := sorted(frame.wanted - frame.seen.keys()):
        hints = "; ".join(f"{site!r}: {nearest(site, frame.passed - frame.wanted)}" for site in missed)
        raise TapError(f"never reached (no such site here, or inside a function that JAX had already traced): {hints}")
    return y, frame
