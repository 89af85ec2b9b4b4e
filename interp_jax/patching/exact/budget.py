"""What a grid costs: memory of a step, and arithmetic done against arithmetic that the cells need.

Memory is an estimate: what is recorded of the two runs, and what a lane's widest moment holds: its stream, one layer's
activations, scores, and logits where the metric reads all of them. Arithmetic counts the products (multiply and add) of the
layers and of the attention:

    cone of a cell      layers ≥ l, columns ≥ s, each looking back at every column up to itself; one row of logits
    done                what the program runs for it, empty places and hidden keys included

so `done / cone` is what the layout wastes. It can be below 1: in the last layer only the measured rows go on, and a patch of
what one row's query makes changes no other row of its layer.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from interp_jax.errors import InputError
from interp_jax.models.sites import shape, sites
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact.packing import Layout


class Work(NamedTuple):
    """Floating operations per example."""

    done: float
    cone: float


class Split(NamedTuple):
    """How a grid is cut to fit: lanes in a step, and examples at once."""

    lanes: int
    examples: int


def lane_bytes(
    cfg: TransformerConfig, rows: int, columns: int, cells: int, read: int, itemsize: int, coordinates: int = 0
) -> float:
    """Bytes of a lane of one example: `columns` of the prefix, `read` logits of each of its `cells`, a row's `coordinates`."""
    width = 6 * cfg.d_model + (2 * cfg.n_heads + 2 * cfg.n_groups) * cfg.d_head + (2 + cfg.gated) * cfg.d_mlp
    looks = 3 * cfg.n_heads * (rows + columns)
    return itemsize * float(rows * (width + looks + coordinates) + 2 * cells * read)


def recorded_bytes(cfg: TransformerConfig, columns: int, sites_put_in: Sequence[str], itemsize: int) -> float:
    """Bytes of what is kept of one example: streams, keys and values of both runs, and the sites that are put in."""
    run = (cfg.n_layers + 1) * cfg.d_model + 2 * cfg.n_layers * cfg.n_groups * cfg.d_head
    known = {site.name: site for site in sites(cfg)}
    put_in = sum(cfg.n_layers * math.prod(shape(known[name], cfg, 1, columns)) for name in sites_put_in)
    return itemsize * float(2 * columns * run + put_in)


def split(bytes_per_lane: float, bytes_kept: float, n_examples: int, memory: float) -> Split:
    """As many examples at once as fit, each with one lane and what is kept of it, all if they do; then as many lanes.

    Raises:
      InputError: not even one lane of one example fits.
    """
    one = bytes_per_lane + bytes_kept
    if one > memory:
        raise InputError(
            f"one cell of one example needs about {one / 1e6:.3g} MB, {bytes_kept / 1e6:.3g} of them for what is recorded, "
            f"more than memory = {memory / 1e6:.3g} MB: allow more memory, or shorten the prompts"
        )
    examples = min(n_examples, int(memory / one))
    return Split(max(1, int((memory / examples - bytes_kept) / bytes_per_lane)), examples)


def work(cfg: TransformerConfig, layout: Layout, starts: Int[np.ndarray, " C"], firsts: Int[np.ndarray, " C"],
         columns: int, read: int, narrow: bool = False) -> Work:  # fmt: skip
    """Arithmetic of a layout of cells that begin at layers `firsts` and columns `starts`; for `narrow` see `cone.Kind`."""
    attention, everything = row_work(cfg)
    n_steps, n_lanes, n_places = layout.cell.shape
    keys = layout.rows + (columns if narrow or (starts > 0).any() else 0)
    looks = 4.0 * cfg.n_heads * cfg.d_head
    full = layout.rows * (everything + looks * keys)
    last = layout.rows * attention["keys"] + n_places * (everything - attention["keys"] + looks * keys)
    above = layout.first_layer + narrow
    runs = np.clip(cfg.n_layers - 1 - above, 0, None).sum() * full
    ends = (above < cfg.n_layers).sum() * last
    alone = narrow * n_steps * n_places * (everything + looks * (n_places + columns))
    logits = 2.0 * cfg.d_model * read
    done = n_lanes * (alone + runs + ends + n_steps * n_places * logits)
    length = columns - starts
    before = (columns * (columns + 1) - starts * (starts + 1)) / 2  # keys that the rows of a cell see
    cone = ((cfg.n_layers - firsts) * (length * everything + looks * before) + logits).sum()
    return Work(float(done), float(cone))


def row_work(cfg: TransformerConfig) -> tuple[dict[str, float], float]:
    """Operations of a layer's products for a row: those of its keys and values, and all."""
    keys = 4.0 * cfg.d_model * cfg.n_groups * cfg.d_head
    attention = keys + 4.0 * cfg.d_model * cfg.n_heads * cfg.d_head
    return {"keys": keys}, attention + 2.0 * cfg.d_model * cfg.d_mlp * (3 if cfg.gated else 2)
