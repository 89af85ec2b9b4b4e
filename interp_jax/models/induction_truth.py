"""Prompts of the induction circuit, and what patching gives in the limit of sharp patterns.

Clean prompts are distinct tokens … A B … C D …, then A again: B is the answer. Corrupted, A and C change places in the segment:

    … A B … C D … A  →  B        metric +1 · sharpness          … C B … A D … A  →  D        metric -1 · sharpness

The last token is the same, and so are B and D, which are looked at: what changes is which token stands before them. Head 0.0
writes that, and the keys of head 1.0 read it. So all of the effect passes through the values and the output of 0.0, through the
keys and the output of 1.0, and along the one path between them: K-composition. No other node has any, and A and C stand at no
position 0, where a token would count as its own previous one.
"""

import numpy as np

from interp_jax.errors import InputError
from interp_jax.models.circuit_truth import SITES, Edge, Effects, Expected, Node, Prompts, Truth, head_effects

PREVIOUS, INDUCTION = (0, 0), (1, 0)
CORRUPTION = "swapped"
SHORTEST = 6  # tokens: one, A, B, C, D and A
SHOWN = {"z": (PREVIOUS, INDUCTION), "q": (), "k": (INDUCTION,), "v": (PREVIOUS,)}  # through which all of it passes


def induction_truth() -> Truth:
    """Nodes, the edge, and exact effects of the circuit."""
    heads = {
        site: head_effects((2, 2), dict.fromkeys(SHOWN[site], 1.0), dict.fromkeys(SHOWN[site], 0.0)) for site in SITES
    }
    along = Effects(np.ones(1), np.zeros(1))
    nodes = Node(*PREVIOUS, "previous token"), Node(*INDUCTION, "induction")
    return Truth(nodes, (Edge(PREVIOUS, INDUCTION, "k"),), {CORRUPTION: Expected(heads, along, {})})


def induction_prompts(d_vocab: int, length: int) -> Prompts:
    """Segments of consecutive tokens from every first one, with A and C at all places, either of them asked for.

    Raises:
      InputError: less than 6 tokens a prompt, or too few in the vocabulary for a segment of distinct ones.
    """
    if length < SHORTEST or d_vocab < length - 1:
        raise InputError(
            f"{length} tokens of {d_vocab}: prompts have at least {SHORTEST}, and the vocabulary all but one of them"
        )
    places = [(a, c) for a in range(1, length - 2) for c in range(1, length - 2) if abs(a - c) > 1]
    clean, corrupted, answers, others = [], [], [], []
    for first in range(d_vocab):
        segment = (first + np.arange(length - 1)) % d_vocab
        for a, c in places:
            swapped = segment.copy()
            swapped[[a, c]] = segment[[c, a]]
            clean.append([*segment, segment[a]])
            corrupted.append([*swapped, segment[a]])
            answers.append([segment[a + 1]])
            others.append([segment[c + 1]])
    return Prompts(*(np.array(part, np.int32) for part in (clean, corrupted, answers, others)))
