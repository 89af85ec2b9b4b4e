"""Prompts of the name mover circuit, their three corruptions, and what patching gives in the limit of sharp patterns.

Clean prompts are BEGIN, two names, FILLER …, one of the two again (S; the other is IO), END. Corrupted is S's second place:

    swapped    it holds IO, so that S becomes the answer            metric -1 · sharpness, clean +1 · sharpness
    third      it holds a name that was not said: no duplicate      metric 0
    filler     it holds FILLER                                      metric 0

The mover, denoised, answers all by itself; where prompts are swapped the backup then sees that S is neither repeated nor said
and says it too, which leaves half. Noised, it is silent or says S, and the backup says IO. The "third" name is itself one that
is not repeated, so that what restores "repeated" alone makes the mover look at it as much as at IO: half again.
"""

import itertools

import numpy as np

from interp_jax.errors import InputError, nearest
from interp_jax.models.circuit_truth import SITES, Edge, Effects, Expected, Node, Prompts, Truth, head_effects

CORRUPTIONS = ("swapped", "third", "filler")
DUPLICATE, INHIBITION, MOVER, BACKUP = HEADS = ((0, 0), (1, 0), (2, 0), (3, 0))
ROLES = ("duplicate", "inhibition", "mover", "backup")

# by corruption, in the order of CORRUPTIONS; pairs are (without, with) the backup
DENOISED = {
    "z": {DUPLICATE: (1, 0.5, 1), INHIBITION: (1, 0.5, 1), MOVER: ((1, 0.5), 1, 1)},
    "q": {DUPLICATE: (1, 0.5, 1), MOVER: ((1, 0.5), 0.5, 1)},
    "k": {MOVER: (0.5, 0, 0)},
    "v": {INHIBITION: (1, 0, 0)},
}
NOISED = {
    "z": {DUPLICATE: (0, 0, 0), INHIBITION: (0, 0, 0), MOVER: ((0, 0.5), (0, 1), (0, 1))},
    "q": {DUPLICATE: (0, 0, 0), MOVER: ((0, 0.5), (0, 1), (0, 1))},
    "k": {INHIBITION: (1, 0, 0), MOVER: (0.5, 0, 1), BACKUP: (1, 0, 1)},
    "v": {INHIBITION: (0, 0, 0)},
}
EDGES = {  # (denoised, noised)
    Edge(DUPLICATE, INHIBITION, "k"): ((0, 0, 0), (1, 0, 0)),
    Edge(DUPLICATE, INHIBITION, "v"): ((1, 0, 0), (0, 0, 0)),
    Edge(INHIBITION, MOVER, "q"): (((1, 0.5), 0.5, 1), ((0, 0.5), (0, 1), (0, 1))),
    Edge(INHIBITION, BACKUP, "q"): ((0.5, 0.5, 1), (0.5, 1, 1)),
    Edge(MOVER, BACKUP, "q"): ((-0.5, 0, 0), (1.5, 2, 2)),
}


def name_mover_truth(backup: bool) -> Truth:
    """Nodes, edges and exact effects of the circuit with or without its backup."""
    layers = 4 if backup else 3
    nodes = tuple(Node(*head, role) for head, role in zip(HEADS, ROLES, strict=True))[:layers]
    edges = tuple(edge for edge in EDGES if edge.receiver[0] < layers)

    def expected(i: int) -> Expected:
        def pick(values: tuple) -> float:
            return float(values[i][backup] if isinstance(values[i], tuple) else values[i])

        def heads(site: str) -> Effects:
            named = [
                {head: pick(values) for head, values in table[site].items() if head[0] < layers}
                for table in (DENOISED, NOISED)
            ]
            return head_effects((layers, 2), *named)

        along = [np.array([pick(EDGES[edge][way]) for edge in edges]) for way in (0, 1)]
        return Expected({site: heads(site) for site in SITES}, Effects(*along), {})

    return Truth(nodes, edges, {name: expected(i) for i, name in enumerate(CORRUPTIONS)})


def name_mover_prompts(n_names: int, length: int, corruption: str) -> Prompts:
    """All pairs of prompts of `length` tokens.

    Raises:
      InputError: an unknown corruption, too few names for it, or less than 5 tokens.
    """
    if corruption not in CORRUPTIONS:
        raise InputError(f"unknown corruption {corruption!r}: {nearest(corruption, CORRUPTIONS)}")
    needed = 3 if corruption == "third" else 2
    if n_names < needed or length < 5:
        raise InputError(
            f"{n_names} names and {length} tokens: {corruption!r} prompts need {needed} names and 5 tokens"
        )
    begin, filler, end = n_names, n_names + 1, n_names + 2
    clean, corrupted, answers, others = [], [], [], []
    for first, second in itertools.permutations(range(n_names), 2):
        for repeated, answer in ((first, second), (second, first)):
            third = [name for name in range(n_names) if name not in (first, second)]
            for instead in {"swapped": [answer], "third": third, "filler": [filler]}[corruption]:
                start = [begin, first, second, *[filler] * (length - 5)]
                clean.append([*start, repeated, end])
                corrupted.append([*start, instead, end])
                answers.append([answer])
                others.append([repeated])
    return Prompts(*(np.array(part, np.int32) for part in (clean, corrupted, answers, others)))
