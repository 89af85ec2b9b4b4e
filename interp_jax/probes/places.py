"""Names of sites, for people: where along their axes one of them is, or some are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

NAMED = 3  # how many of the places that are wrong in one way are named


def site_name(site: int | np.integer, axes: Mapping[str, Sequence[Any]]) -> str:
    """Such as "layer 3, position 7"."""
    if not axes:
        return "the only site"
    place = np.unravel_index(site, tuple(map(len, axes.values())))
    return ", ".join(f"{axis} {names[i]}" for (axis, names), i in zip(axes.items(), place, strict=True))


def named(sites: Int[np.ndarray, " n"], axes: Mapping[str, Sequence[Any]]) -> str:
    """The first of some sites, and how many more."""
    more = len(sites) - NAMED
    return "; ".join(site_name(int(site), axes) for site in sites[:NAMED]) + (f" and {more} more" if more > 0 else "")
