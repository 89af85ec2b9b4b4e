"""A Flax linen module as a function with taps at every module's inputs and outputs.

    fn = tapped(model)
    y, acts = taps.record(fn, ["encoder.Dense_0.out"])(variables, x)
    y       = taps.edit(fn)({"encoder.Dense_0.out": Edit("scale", 0.0)}, variables, x)

Modules are seen through `nn.intercept_methods`. A lifted module (`nn.scan`, `nn.remat`, `nn.remat_scan`, `nn.RNN`, ...) keeps
Flax's own lifting, and its loop runs through `taps`: a site inside a scan has a leading layer axis.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from third_party.flax.calls import Calls, call_tapped
from third_party.flax.lifting import count_once

Method = Callable[..., Any] | str | None


def tapped(module: nn.Module, *, method: Method = None) -> Callable[..., Any]:
    """`function(variables, *args, **kwargs)`: `module.apply` with taps.

    Without a transformation around it, it is `module.apply`, bit for bit. `rngs`, `mutable` and the rest of `apply`'s
    keywords mean what they mean there.

    Args:
      module: unbound.
      method: the method to apply, as in `module.apply`; its sites are `"<method>.in"` and `"<method>.out"`.

    Returns:
      A pure function, whose sites `third_party.flax.calls` names. From within record or edit it raises `TapError` as
      any model does, and moreover names the module and the transformation for a site inside `nn.vmap`, `nn.jit`,
      `nn.cond`, `nn.while_loop`, `nn.grad`, `nn.custom_vjp`, or an `nn.scan` that is reversed or broadcasts an
      output, where taps cannot act.
    """

    def run(bound: nn.Module, *args: Any, **kwargs: Any) -> Any:
        count_once(bound.scope.rng_counters)  # else a scan's second trace would draw other random numbers
        if callable(method):
            return getattr(method, "__func__", method)(bound, *args, **kwargs)
        return getattr(bound, method or "__call__")(*args, **kwargs)

    def function(variables: Any, *args: Any, **kwargs: Any) -> Any:
        def call(calls: Calls) -> Any:
            with nn.intercept_methods(_interceptor(calls)):
                return module.apply(variables, *args, method=run, **kwargs)

        return call_tapped(call)

    return function


def _interceptor(calls: Calls) -> Callable[..., Any]:
    def intercept(following: Callable[..., Any], args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        module, name = context.module, context.method_name
        if module.scope is None or name == "setup" or not name.isidentifier():
            return following(*args, **kwargs)
        path = ".".join(module.path if name == "__call__" else (*module.path, name))
        return calls.through(following, args, kwargs, path, type(module).__name__)

    return intercept
