"""What a probe is: two functions and what its targets mean. A new probe is a file with these, and nothing else.

    params = fit(key, x, y, w, hypers)         x [B D] (or [B P D]), y [B] (or [B C]), w [B] ≥ 0, where 0 leaves an example out
    scores = predict(params, x)                [B] (or [B C]): what `target` measures against y

`hypers` is a NamedTuple of traced scalars; what is static is a keyword argument, bound by `functools.partial`. Folds, balanced
classes, bootstraps (`resampling.py`) and controls are all a w or a y, so `engine.py` batches any probe over them. `fit` must
take any D >= 1: one control has a single column. An iterative fit says how it ended in a field `convergence` of its params.

A probe that asks of the data only its first two moments has `from_moments(moments, hypers) -> params` too: then the engine adds
up the moments of folds once for all targets and hypers, and `fit` is `from_moments` of the moments of (x, y, w). An iterative
probe may have `prepare(x, hypers)`, which neither targets nor weights enter: its result is given to `fit` as `prepared`, and
targets are fitted one after another, as some take many more steps than others.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

Fit = Callable[..., Any]
Predict = Callable[[Any, Array], Array]


class Convergence(NamedTuple):
    """How an iterative fit ended.

    Attributes:
      gradient: the largest entry of the mean gradient of an example that is left.
      steps: how many were taken.
      converged: whether the tolerance was met.
    """

    gradient: Float[Array, "..."]
    steps: Int[Array, "..."]
    converged: Bool[Array, "..."]


class Allowed(NamedTuple):
    """What targets may be.

    Attributes:
      holds: y -> which examples keep to it, [B].
      said: it, for people.
    """

    holds: Callable[[Any], Any]
    said: str


class Target(NamedTuple):
    """What targets mean.

    Attributes:
      measure: (scores, y, w) -> a NamedTuple of scalars, nan where one has no meaning. By the first, where larger is better,
        regularisations are chosen.
      each: (scores, y) -> a NamedTuple of [B]; its weighted means are the measures of these names. None where there are none.
      classes: y -> how many classes there are, 0 of numbers, and which each example is of, [B] or [B C] of several labels;
        -1 is none. Every fit must see two. None where any will do.
      allowed: what y may be; None where that is any number.
    """

    measure: Callable[[Array, Array, Array], Any]
    each: Callable[[Array, Array], Any] | None = None
    classes: Callable[[Any], Any] | None = None
    allowed: Allowed | None = None


class Probe(NamedTuple):
    """See the module.

    `factorises` says that a fit calls LAPACK (eigenvectors, Cholesky). A program of several CPU devices that does so never
    ends, and such a probe is refused there; others solve equations by products, `positive.py`.
    """

    fit: Fit
    predict: Predict
    target: Target
    from_moments: Callable[[Any, Any], Any] | None = None
    prepare: Callable[[Array, Any], Any] | None = None
    factorises: bool = False


def convergence_of(params: Any, n_axes: int = 0) -> Convergence | None:
    """How fits ended, whose params have so many leading axes: the worst of several labels; None of a closed form."""
    found = getattr(params, "convergence", None)
    if found is None:
        return None
    over = tuple(range(n_axes, found.gradient.ndim))
    return Convergence(found.gradient.max(over), found.steps.max(over), found.converged.all(over))
