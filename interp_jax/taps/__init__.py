"""Taps: name an activation where it is computed, then record it or edit it from outside.

A model calls `tap(x, "site")` where something is worth seeing and knows nothing else of analysis. Two function
transformations, in the manner of `jax.grad`, do the rest:

    logits, acts = record(model, {"blocks.resid_post": (3, 5), "embed": ...})(params, tokens)
    logits       = edit(model)({"blocks.resid_post": Edit("add", v, layer=3)}, params, tokens)

The mechanism is a thread-local stack of frames, one per transformation whose function is running.

1. A frame remembers the JAX trace that it began in. A requested site tapped in any other trace raises, so that nothing
   edited or recorded can enter a JAX cache, and nothing cached can pass for edited.
2. When the function returns, every requested site must have been reached exactly once, or the frame raises.
3. Loops and rematerialisation go through `scan` and `remat`, which run the body in fresh frames and hand out what
   those saw as ordinary outputs. `jit`, `vmap`, `grad`, `shard_map` go *outside* of record and edit.
4. The inner transformation acts first: `record(edit(m))` sees edited values, `edit(record(m))` raw ones.
"""

from interp_jax.taps.edits import Edit
from interp_jax.taps.frames import TapError, tap, wants
from interp_jax.taps.loops import remat, scan
from interp_jax.taps.transformations import edit, edit_with, record

__all__ = ["Edit", "TapError", "edit", "edit_with", "record", "remat", "scan", "tap", "wants"]
