"""What is known of a model built by hand: its nodes, its edges, and what patching them must give.

Every effect is the normalised metric of the patched run, 0 = corrupted and 1 = clean, the metric being the difference of logits
between answer and other. Denoising patches a node of the clean run into the corrupted one: 0 where nothing comes of it.
Noising is the reverse: 1 where nothing comes of it. A head is patched at all positions at once.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SITES = ("z", "q", "k", "v")  # of `blocks.attn.`


class Node(NamedTuple):
    """A head that the behaviour needs, and what it does."""

    layer: int
    head: int
    role: str


class Edge(NamedTuple):
    """What a head reads of an earlier one, through its "q", "k" or "v"; heads are (layer, head)."""

    sender: tuple[int, int]
    receiver: tuple[int, int]
    via: str


class Effects(NamedTuple):
    """Normalised metrics: [L H] where heads are patched, one per edge where edges are."""

    denoised: Float[np.ndarray, "..."]
    noised: Float[np.ndarray, "..."]


class Expected(NamedTuple):
    """Exact effects for one kind of prompts.

    Attributes:
      heads: by site of `SITES`, that site of one head patched and all that follows computed anew.
      edges: of the truth's edges, in their order: only what the sender says to that input of the receiver is patched.
      attributed: by site, the first-order estimate of `heads`, base + gradient at the base run · difference; only where it
        is known in closed form.
    """

    heads: Mapping[str, Effects]
    edges: Effects
    attributed: Mapping[str, Effects]


class Truth(NamedTuple):
    """All that is known of a circuit; `expected` goes by the name of the prompts' corruption."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    expected: Mapping[str, Expected]


class Prompts(NamedTuple):
    """Pairs of prompts of equal length, and the tokens between whose logits at the last position the metric decides."""

    clean: Int[np.ndarray, "B P"]
    corrupted: Int[np.ndarray, "B P"]
    answers: Int[np.ndarray, "B 1"]
    others: Int[np.ndarray, "B 1"]


def head_effects(
    shape: tuple[int, int],
    denoised: Mapping[tuple[int, int], float] | None = None,
    noised: Mapping[tuple[int, int], float] | None = None,
) -> Effects:
    """Effects [L H] of which only those that differ from "nothing comes of it" are named, by (layer, head)."""
    nothing = Effects(np.zeros(shape), np.ones(shape))
    for array, named in zip(nothing, (denoised, noised), strict=True):
        for node, value in (named or {}).items():
            array[node] = value
    return nothing
