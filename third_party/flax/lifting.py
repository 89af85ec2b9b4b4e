"""Flax's lifted loops and rematerialisation, run through `taps.scan` and `taps.remat`.

Flax lifts modules in Python (it splits keys, moves axes, rebuilds modules around slices) and leaves the loop itself to
`jax.lax.scan`, the rematerialisation to `jax.checkpoint`. While a tapped call runs, these names lead to the loops of
`taps` for the thread that runs it, and to JAX for every other; what Flax does around them stays Flax's. So does a module
that calls `jax.lax.scan` itself. The names are JAX's own again when the last tapped call has returned or raised.
"""

import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax.core import broadcast

from interp_jax import taps
from third_party.flax.reach import Reach, visible

_JAX = {"scan": jax.lax.scan, "checkpoint": jax.checkpoint, "remat": jax.remat}


class _Here(threading.local):
    """Whether this thread's scans are re-lifted, options for the loop that `taps` is about to make,
    the counters of `count_once`, and what was out of reach.
    """

    def __init__(self) -> None:
        self.relifts, self.options, self.counters, self.reach = False, {}, [], Reach()


_here = _Here()
_lock = threading.Lock()
_users = 0


@contextlib.contextmanager
def relifted(reach: Reach) -> Iterator[None]:
    """Within the block, this thread's `jax.lax.scan` and `jax.checkpoint` are `taps.scan` and `taps.remat`."""
    before = _here.counters, _here.reach
    _here.counters, _here.reach = [], reach
    _install(1)
    try:
        with _mode(relifts=True):
            yield
    finally:
        _install(-1)
        _here.counters, _here.reach = before


def count_once(counters: dict[Any, Any]) -> None:
    """Within `relifted`, a body that is traced several times leaves `counters` as if it had been traced once.

    Args:
      counters: numbers, or again dictionaries of them, under any keys; changed in place.
    """
    _here.counters.append(counters)


def _install(change: int) -> None:
    global _users
    with _lock:
        _users += change
        ours = _users > 0
        jax.lax.scan = _scan if ours else _JAX["scan"]
        jax.checkpoint = _checkpoint if ours else _JAX["checkpoint"]
        jax.remat = _remat if ours else _JAX["remat"]


@contextlib.contextmanager
def _mode(relifts: bool, **options: Any) -> Iterator[None]:
    before = _here.relifts, _here.options
    _here.relifts, _here.options = relifts, options
    try:
        yield
    finally:
        _here.relifts, _here.options = before


def _relifting(body: Callable[..., Any]) -> Callable[..., Any]:
    """`body` with re-lifting on again: around it runs a loop of `taps`, which means JAX's own where it says so."""
    before = [_copied(counters) for counters in _here.counters]

    def inside(*args: Any) -> Any:
        for counters, start in zip(_here.counters, before, strict=False):
            _rewind(counters, start)
        with _mode(relifts=True):
            return body(*args)

    return inside


def _copied(counters: dict[Any, Any]) -> dict[Any, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in counters.items()}


def _rewind(counters: dict[Any, Any], start: dict[Any, Any]) -> None:
    for key in list(counters):
        if key not in start:
            del counters[key]
        elif isinstance(counters[key], dict):
            _rewind(counters[key], start[key])
        else:
            counters[key] = start[key]


@functools.wraps(_JAX["scan"])
def _scan(*args: Any, **kwargs: Any) -> Any:
    if not _here.relifts or not visible():
        return _JAX["scan"](*args, **{**_here.options, **kwargs})
    call = inspect.signature(_JAX["scan"]).bind(*args, **kwargs)
    call.apply_defaults()
    options = dict(call.arguments)
    body, init, xs, length = (options.pop(name) for name in ("f", "init", "xs", "length"))
    if options.pop("reverse") or _broadcasts_output(body):
        return _JAX["scan"](*args, **kwargs)  # what lies inside stays out of reach, and says so if it is asked for
    _here.reach.forget_trial(sys._getframe(1))
    with _mode(relifts=False, **options):
        return taps.scan(_relifting(body), init, xs, length)


def _broadcasts_output(body: Callable[..., Any]) -> bool:
    """Linen computes outputs with `out_axes=nn.broadcast` in a trace of their own, which no edit would reach."""
    axes = inspect.getclosurevars(body).nonlocals.get("out_axes") if inspect.isfunction(body) else None
    return isinstance(axes, tuple) and any(leaf is broadcast for leaf in jax.tree.leaves(axes[:1]))


def _checkpoint(*args: Any, **options: Any) -> Any:
    return _relift_checkpoint("checkpoint", *args, **options)


def _remat(*args: Any, **options: Any) -> Any:
    return _relift_checkpoint("remat", *args, **options)


def _relift_checkpoint(name: str, *args: Any, **options: Any) -> Any:
    if not _here.relifts or not args:
        return _JAX[name](*args, **{**_here.options, **options})
    (function,) = args
    plain = _JAX[name](function, **options)
    numbers, names = options.pop("static_argnums", ()), options.pop("static_argnames", ())
    numbers, names = [numbers] if isinstance(numbers, int) else numbers, [names] if isinstance(names, str) else names

    @functools.wraps(function)
    def lifted(*args: Any, **kwargs: Any) -> Any:
        if not visible():
            return plain(*args, **kwargs)
        static = {number % len(args) for number in numbers if -len(args) <= number < len(args)}
        fixed = {key: kwargs.pop(key) for key in list(kwargs) if key in names}

        def body(traced: dict[int, Any], kwargs: dict[str, Any]) -> Any:
            merged = [args[i] if i in static else traced[i] for i in range(len(args))]
            return function(*merged, **kwargs, **fixed)

        with _mode(relifts=False, **options):
            return taps.remat(_relifting(body))({i: x for i, x in enumerate(args) if i not in static}, kwargs)

    return lifted
