"""The transformations: `record`, `edit` and `edit_with`, in the manner of `jax.grad` and `jax.vmap`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Any

from interp_jax.taps.edits import Edit
from interp_jax.taps.frames import TapError, run
from interp_jax.taps.handlers import Apply, Call, Record

Layers = tuple[int, ...] | EllipsisType
Edits = Mapping[str, Edit | Sequence[Edit]]


def record(
    function: Callable[..., Any], sites: Mapping[str, Layers] | Iterable[str]
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Transform `function(*args) -> y` into `recorded(*args) -> (y, {site: activation})`.

    Args:
      function: calls `tap`.
      sites: names, or a mapping of names to `...` (all) or a tuple of layers; layers are kept in the order given.
        A site inside `scan` gets a leading layer axis.

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
        y, frame = run(Record(layers), function, *args, **kwargs)
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
        return run(Apply(edits), function, *args, **kwargs)[0]

    return edited


def edit_with(function: Callable[..., Any], functions: Mapping[str, Callable[[Any, Any], Any]]) -> Callable[..., Any]:
    """Transform `function` so that a named site passes through `functions[site](x, layer)`; layer is None or traced.

    Use it for what no `Edit` expresses: every new function is a new compilation.
    """

    def edited(*args: Any, **kwargs: Any) -> Any:
        return run(Call(dict(functions)), function, *args, **kwargs)[0]

    return edited
