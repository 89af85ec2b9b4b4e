"""The one error that a person is meant to read: what is wrong, where, and the nearest valid thing."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input. Its message is one line; the command line prints it without a traceback and exits with status 2."""


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """A clause that names what `name` was probably meant to be: "did you mean 'n_hidden'?", else the known names."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=most, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"known: {', '.join(known)}" if known else "there is none"
