"""Which sites were met where no tap can act, and why: so that asking for one names its module and its transformation."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import flax

from interp_jax.taps import TapError
from interp_jax.taps.frames import frames

_FLAX = Path(flax.__file__).parent
_LIFTS = (str(_FLAX / "core" / "lift.py"), str(_FLAX / "nnx" / "transforms"))
_PLUMBING = str(_FLAX / "nnx" / "transforms" / "general.py")
_LINEN_SCAN = str(_FLAX / "core" / "axes_scan.py")
_WRAPPER = re.compile(r"Fn(Wrapper)?$")  # nnx's classes around a function; what called them is further out


class Hidden(NamedTuple):
    """Why a site is out of reach, and the running functions (their ids) when it was met."""

    module: str
    transformation: str
    within: frozenset[int]


class Reach:
    """The sites that one call of a tapped function met out of reach."""

    def __init__(self) -> None:
        self._hidden: dict[str, Hidden] = {}

    def hide(self, sites: Iterable[str], module: str) -> None:
        """Note `sites` of `module`, which runs here."""
        if new := set(sites) - self._hidden.keys():
            here = Hidden(module, _name_transformation(), frozenset(map(id, _callers())))
            self._hidden.update(dict.fromkeys(new, here))

    def forget_trial(self, caller: FrameType) -> None:
        """Linen first traces a scan's body on trial; once `caller` scans it for good, what the trial met is forgotten."""
        if caller.f_code.co_filename == _LINEN_SCAN:
            self._hidden = {site: why for site, why in self._hidden.items() if id(caller) not in why.within}

    def check(self) -> None:
        """Raise if a requested site was met out of reach, even if also in reach: an edit would be half done.

        Raises:
          TapError: naming the site, its module and the transformation around it.
        """
        for frame in frames():
            for site in sorted(frame.wanted):
                why = self._hidden.get(without_number(site))
                if why and (site not in frame.seen or site == without_number(site)):
                    raise TapError(
                        f"{site!r} is out of reach: {why.module} runs inside {why.transformation}, where no tap can act"
                    )


def visible() -> bool:
    """Whether the innermost transformation, and every other that wants anything, reaches a tap here."""
    return bool(frames()) and all(f.reaches_here() for f in frames() if f.wanted or f is frames()[-1])


def without_number(site: str) -> str:
    """The site's name without the number of a call."""
    return re.sub(r"#\d+(?=\.)", "", site)


def _name_transformation() -> str:
    """The lifted transformation that runs here, by the Python stack."""
    for caller in _callers():
        name = caller.f_code.co_qualname.partition(".")[0]
        is_lift = (file := caller.f_code.co_filename).startswith(_LIFTS) and file != _PLUMBING
        if is_lift and not _WRAPPER.search(name):
            return f"Flax's lifted {_public(name)}"
    return "a transformation (jit, vmap, grad, cond, ...) that began within record or edit"


def _public(name: str) -> str:
    """What a user calls a transformation: "_simple_scan" is "scan", "SimpleCustomVjp" is "custom_vjp"."""
    bare = re.sub(r"^_?(simple_|graph_updates_|Simple)?|(Wrapped|_general)$", "", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", bare).lower()


def _callers() -> Iterator[FrameType]:
    caller = sys._getframe(1)
    while caller is not None:
        yield caller
        caller = caller.f_back
