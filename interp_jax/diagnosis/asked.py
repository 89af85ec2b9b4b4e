"""What a family's file gives when it is asked, checked: whatever is wrong with it is said in one line."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int

from interp_jax.errors import InputError

Tokens = Int[np.ndarray, "B P"]


def tokens_of(here: str, name: str, x: Any, positions: int, vocabulary: int) -> Tokens:
    """Inputs, checked.

    Raises:
      InputError: they are no tokens of the family.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != positions or not np.issubdtype(x.dtype, np.integer):
        raise InputError(f"{here}: {name} must be integers [N {positions}], not {x.dtype} {list(x.shape)}")
    if (bad := (x < 0) | (x >= vocabulary)).any():
        raise InputError(f"{here}: {name} has token {x[bad][0]}; tokens go from 0 to {vocabulary - 1}")
    return x.astype(np.int32)


def tried(here: str, name: str, of: Callable[[], Any]) -> Any:
    """What a function of a family's file gives.

    Raises:
      InputError: it raises, in one line.
    """
    try:
        return of()
    except InputError:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"{here}: {name} raised {type(error).__name__}: {first}") from error


def told(here: str, name: str, of: Callable[[Any], Any], x: Tokens, n: int, what: str) -> Int[np.ndarray, " B"]:
    """What a function of a family's file says of inputs, checked."""
    said = tried(here, name, lambda: np.asarray(of(x)))
    if said.shape != (len(x),) or not (np.issubdtype(said.dtype, np.integer) or said.dtype == bool):
        raise InputError(f"{here}: {name} must answer integers [{len(x)}], not {said.dtype} {list(said.shape)}")
    if (bad := (said < 0) | (said >= n)).any():
        row = int(np.argmax(bad))
        raise InputError(f"{here}: {name} answers {said[row]} to {x[row].tolist()}; {what} go from 0 to {n - 1}")
    return said.astype(np.int32)
