"""A Flax nnx module as a pure function of its state, with taps at every module's inputs and outputs.

    fn, state = tapped(model)
    y, acts = taps.record(fn, ["encoder.linear.out"])(state, x)
    y       = taps.edit(fn)({"encoder.linear.out": Edit("scale", 0.0)}, state, x)

Each call merges a copy of the model in which every module has a subclass whose `__call__` taps, and carries its place as a
static attribute. So places survive Flax's lifting, which takes modules apart and rebuilds them around slices, and neither
the model nor its classes are touched. The loops of `nnx.scan` and `nnx.remat` run through `taps`.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from interp_jax.taps.frames import frames
from third_party.flax.calls import Calls, call_tapped

_PLACE = "_tapped_place"
_CHECKPOINT_FILE = inspect.getfile(jax.checkpoint)


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """Where a module stands, in which call. New and unequal for each: no cache of JAX can stand in for the call."""

    path: str
    calls: Calls


def tapped(
    module: nnx.Module, *, method: str = "__call__", mutable: Any = None
) -> tuple[Callable[..., Any], nnx.State]:
    """`(function, state)`: `function(state, *args, **kwargs)` is `module(*args, **kwargs)` with taps.

    Args:
      module: is left as it is; `function` keeps its structure and nothing of its arrays.
      method: the method to call, if not `__call__`; its sites are `"<method>.in"` and `"<method>.out"`.
      mutable: None, or an nnx filter (`nnx.BatchStat`): the function then returns `(y, new state of these variables)`.
        Otherwise what the model writes into its variables is dropped.

    Returns:
      A pure function, whose sites `third_party.flax.calls` names, and the module's state, a pytree. `nnx.split_state`
      and `nnx.merge_state` divide it into what is differentiated or swept and what is not. From within record or edit
      the function raises `TapError` as any model does, and moreover names the module and the transformation for a
      site inside `nnx.vmap`, `nnx.grad`, `nnx.cond`, `nnx.while_loop`, ... or a function under `nnx.jit`. A module
      whose `__call__` is under `nnx.jit` runs without it.
    """
    graphdef, state = nnx.split(module)
    state = jax.tree.map(lambda leaf: leaf, state)  # new variables: what the module writes later is its own

    def function(state: Any, *args: Any, **kwargs: Any) -> Any:
        def call(calls: Calls) -> Any:
            model = nnx.merge(graphdef, state, copy=True)
            if frames():
                _place(model, calls)
            if method == "__call__":
                y = model(*args, **kwargs)
            else:
                y = calls.through(getattr(model, method), args, kwargs, method, type(model).__name__)
            return y if mutable is None else (y, nnx.state(model, mutable))

        return call_tapped(call)

    return function, state


def _place(model: nnx.Module, calls: Calls) -> None:
    """Tell the model's modules their places, and move them into subclasses that tap."""
    for path, module in list(nnx.iter_modules(model)):
        if callable(module):
            setattr(module, _PLACE, _Place(".".join(map(str, path)), calls))
            object.__setattr__(module, "__class__", _tapping(type(module)))


@functools.cache
def _tapping(base: type) -> type:
    """The subclass of `base` whose call passes through the running tapped call; one for each class."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        place = getattr(self, _PLACE)
        call = functools.partial(_unlift(base.__call__), self)
        return place.calls.through(call, args, kwargs, place.path, base.__name__)

    names = {key: getattr(base, key) for key in ("__module__", "__qualname__", "__doc__")}
    pytree = {"pytree": base._pytree__is_pytree} if hasattr(base, "_pytree__is_pytree") else {}
    return type(base)(base.__name__, (base,), {**names, "__call__": __call__}, **pytree)


def _unlift(call: Callable[..., Any]) -> Callable[..., Any]:
    """A method without `nnx.jit`; under `nnx.remat`, which took JAX's checkpoint at its definition, with today's."""
    if hasattr(call, "jitted_fn"):
        return call.__wrapped__
    outer = call
    while hasattr(call, "__wrapped__"):
        if inspect.isfunction(call) and call.__code__.co_filename == _CHECKPOINT_FILE:
            nonlocals = inspect.getclosurevars(call).nonlocals
            options = {key: nonlocals[key] for key in ("prevent_cse", "policy", "static_argnums") if key in nonlocals}
            return nnx.remat(inspect.unwrap(call), **options)
        call = call.__wrapped__
    return outer
