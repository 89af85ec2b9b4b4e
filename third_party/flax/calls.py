"""One call of a tapped module: its modules' inputs and outputs become sites, and what cannot be one is told.

    <path>.in             the first positional argument, where it is one array
    <path>.in[1]          another positional argument; <path>.in['mask']: a keyword argument
    <path>.out            the output, where it is one array
    <path>.out[0]['key']  one array of an output, or of an argument, that is a pytree
    <path>#1.out          the second call of a module that is called several times; <path>#0.out: the first

`<path>` joins the module's path with dots, and ends with the method's name where that is not `__call__`. At the root it is
empty, and so is its dot: `in`, `out`. What is no array (None, flags, numbers of Python) is no site.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen, nnx

from interp_jax import taps
from interp_jax.taps import TapError
from interp_jax.taps.frames import frames, run, running
from interp_jax.taps.handlers import Record
from third_party.flax.lifting import count_once, relifted
from third_party.flax.reach import Reach, visible, without_number

_OPAQUE = (linen.Module, nnx.Module, nnx.Variable, nnx.Rngs)  # pytrees to JAX, some of them, but objects to a model


class Calls:
    """What one call of a tapped function meets: the modules that run, how often they ran, and what is out of reach."""

    def __init__(self) -> None:
        self.reach = Reach()
        self._running: list[str] = []
        self.counts: Counter[str] = Counter()

    def through(
        self, function: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any], path: str, kind: str
    ) -> Any:
        """`function(*args, **kwargs)`, one module's method, with its inputs and its output tapped.

        A method that runs within itself, as by `super().__call__`, is one call.

        Args:
          function: the method, bound.
          args: positional arguments.
          kwargs: keyword arguments.
          path: the module's, with the method's name if that is not `__call__`.
          kind: the module's class, for errors.
        """
        if not frames() or path in self._running:
            return function(*args, **kwargs)
        self._running.append(path)
        try:
            number = None
            if visible():
                number, self.counts[path] = self.counts[path], self.counts[path] + 1
            args, kwargs = self._tap((args, dict(kwargs)), path, "in", kind, number)
            y = function(*args, **kwargs)
            return self._tap(y, path, "out", kind, number)
        finally:
            self._running.pop()

    def _tap(self, tree: Any, path: str, side: str, kind: str, number: int | None) -> Any:
        """`tree` with each array tapped. The tree itself if nothing changed: a model may hold on to its arguments."""
        leaves, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: isinstance(x, _OPAQUE))
        names = [_name(keys, side) if isinstance(x, (jax.Array, np.ndarray)) else None for keys, x in leaves]
        if number is None:
            self.reach.hide((_join(path, name) for name in names if name), _module(path, kind))
            return tree
        if taps.wants(_join(path, side)) and side not in names:
            have = ", ".join(repr(_join(path, name)) for name in names if name) or "none"
            raise TapError(f"{_join(path, side)!r} of {_module(path, kind)} is not one array; the arrays here: {have}")
        new = [
            x if name is None else _tap_one(x, path, name, number) for (_, x), name in zip(leaves, names, strict=True)
        ]
        changed = any(a is not b for a, (_, b) in zip(new, leaves, strict=True))
        return jax.tree_util.tree_unflatten(treedef, new) if changed else tree


def call_tapped(function: Callable[[Calls], Any]) -> Any:
    """`function(calls)`, whose modules pass through `calls`, with Flax's scan and remat re-lifted through taps.

    Raises:
      TapError: for a requested site that was out of reach, or that a jit within the module hides.
    """
    calls = Calls()
    with relifted(calls.reach):
        count_once(calls.counts)
        y = function(calls)
    calls.reach.check()
    if any(frame.wanted - frame.passed for frame in frames()):
        _check_jit(function)
    return y


def sites(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, ...]:
    """The names that `function(*args, **kwargs)` taps, sorted; nothing is computed.

    A module that is called several times is there once, without a number.
    """
    found: set[str] = set()

    def trace() -> Any:
        y, frame = run(Record({}), function, *args, **kwargs)
        found.update(frame.passed)
        return [leaf for leaf in jax.tree.leaves(y) if isinstance(leaf, jax.Array)]

    jax.eval_shape(trace)
    return tuple(sorted(found))


def _check_jit(function: Callable[[Calls], Any]) -> None:
    """Tell a site that does not exist from one inside a jit, which JAX may not even have run: its trace was cached."""
    with running([]), jax.disable_jit():
        without_jit = set(sites(lambda: call_tapped(function)))
    for frame in frames():
        for site in sorted(frame.wanted - frame.passed):
            if without_number(site) in without_jit - frame.passed:
                raise TapError(
                    f"{site!r} is out of reach: its module runs inside a jit of the model's own, where no tap can act; "
                    "call within jax.disable_jit(), or build the model without it and put jax.jit outside"
                )


def _tap_one(x: Any, path: str, name: str, number: int) -> Any:
    """One array through its site, and through the site of this call alone if that is asked for."""
    site, numbered = _join(path, name), _join(f"{path}#{number}", name)
    if number and taps.wants(site):
        first = _join(f"{path}#0", name)
        raise TapError(f"{site!r} is called more than once: name the call, {first!r}, {numbered!r}, ...")
    x = taps.tap(x, site)
    return taps.tap(x, numbered) if taps.wants(numbered) else x


def _name(keys: tuple, side: str) -> str:
    """A leaf's name; a leaf of the inputs (args, kwargs) goes without the first key, and the first argument without any."""
    if side == "out":
        return side + jax.tree_util.keystr(keys)
    from_kwargs, rest = keys[0].idx, jax.tree_util.keystr(keys[1:])
    return side if not from_kwargs and rest == "[0]" else side + rest


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _module(path: str, kind: str) -> str:
    return f"module {path!r} ({kind})" if path else f"the root module ({kind})"
