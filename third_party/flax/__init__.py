"""Flax modules as functions with taps: `linen.tapped` and `nnx.tapped` name every module's inputs and outputs.

`sites` lists the names that a tapped function has. The README beside this file says how they are formed.
"""

from third_party.flax.calls import sites

__all__ = ["sites"]
