"""What is said of several tellings of a rule: in turn, or at once, as far as the rules' variables are not asked for.

Two rules that agree on all examples are told alike, but for their variables, what their positions decide and what they would
answer elsewhere. What does not depend on these is computed, and compiled, once for all tellings. Variables have names and
numbers of values of their own, so that they cannot be told at once: who asks for them hears the tellings in turn.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from interp_jax.diagnosis.declared import Declared


class Looked(Exception):
    """Variables were asked for."""


class _Unseen(Mapping):
    """What is not to be looked at."""

    def _looked(self, *rest: Any) -> Any:
        raise Looked

    __getitem__ = __iter__ = __len__ = _looked


def hide_variables(declared: Declared) -> None:
    """Whoever asks for the variables of this telling from here on raises `Looked`."""
    object.__setattr__(declared, "variables", _Unseen())
    object.__setattr__(declared, "values", _Unseen())


def in_turn(said: Callable[[Declared], Array], declared: Sequence[Declared]) -> Array:
    """What is said of each telling [N ...], one after the other."""
    return jnp.stack([said(each) for each in declared])


def side_by_side(said: Callable[[Declared], Array], declared: Sequence[Declared]) -> Array:
    """The same in one `vmap` over what they do not have in common.

    Raises:
      Looked: variables were asked for.
    """
    trees = [jax.tree.flatten(each.replace(variables={}, values={})) for each in declared]
    leaves = list(zip(*(own for own, _ in trees), strict=True))
    differ = [any(not np.array_equal(each[0], other) for other in each) for each in leaves]

    def of(own: Sequence[Array]) -> Array:
        rest = iter(own)
        told = [next(rest) if moves else each[0] for moves, each in zip(differ, leaves, strict=True)]
        one = jax.tree.unflatten(trees[0][1], told)
        hide_variables(one)
        return said(one)

    own = [jnp.asarray(np.stack(each)) for moves, each in zip(differ, leaves, strict=True) if moves]
    return jax.vmap(of)(own) if own else jnp.stack([of(own)] * len(declared))
