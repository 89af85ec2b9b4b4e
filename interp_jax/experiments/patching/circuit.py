"""The circuit in a sentence: the heads whose paths carry most, the way that these take, and the heads that they lead to.

The chain begins with the head and the way by which most is restored and lost (their mean) in all later heads at once: through
their queries, their keys or their values; other heads of which the same way carries nearly as much stand beside it. It ends in
the heads into which the first one's single paths of that way carry most. It is an induction circuit where the first is a
previous-token head, the way is the keys, and a head at the end looks at what followed its token: K-composition (Elhage et al.
2021).
"""

from typing import Any, NamedTuple

import numpy as np

from interp_jax.experiments.patching.routes import INPUTS
from interp_jax.experiments.patching.view import View
from interp_jax.experiments.subjects.kinds import KIND
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results.tables import cell_text, interval

WAYS = {"q": "queries", "k": "keys", "v": "values"}
LEAST = 0.05  # a chain that carries less is not spoken of
ALIKE = 0.25  # of the strongest: senders and receivers with more are named
MOST = 6  # of either
IN_FULL = 2  # speakers whose numbers are in the sentence
NOTHING = "the model does not do this, and shares of the effect mean nothing"
Both = tuple[float, float]  # restored, lost


class Speaker(NamedTuple):
    """A head at the beginning, l H + h: what patching its output does, and its paths into all later heads at once, by way."""

    head: int
    alone: Both
    at_once: dict[str, Both]


class Reader(NamedTuple):
    """A head at the end, l H + h, and what the first speaker's path into it does; of keys and values, into its group."""

    head: int
    single: Both


class Chain(NamedTuple):
    """Speakers, way ("q", "k" or "v") and readers, the strongest first; whether it is an induction circuit."""

    speakers: tuple[Speaker, ...]
    way: str
    readers: tuple[Reader, ...]
    is_induction: bool


def chain_of(view: View) -> Chain | None:
    """The strongest chain; None where no path between heads carries anything, or there is no effect to carry."""
    if not view.has("path_all") or not view.is_clear:
        return None
    heads = np.flatnonzero([view.is_head(int(sender)) for sender in view.senders])
    if not len(heads):
        return None
    at_once = np.stack([view.shares(direction, "path_all")[heads] for direction in DIRECTIONS], axis=-1)  # S 3 2
    size = np.abs(at_once).mean(-1)
    row, way = map(int, np.unravel_index(size.argmax(), size.shape))
    if size[row, way] < LEAST:
        return None
    speakers = tuple(speaker_of(view, at_once[i], int(view.senders[heads[i]])) for i in alike(size[:, way]))
    readers = readers_of(view, int(heads[row]), INPUTS[way])
    previous, induction = (getattr(view.kinds, kind).mean(0).ravel() for kind in ("previous", "induction"))
    follows = previous[speakers[0].head] > KIND and any(induction[reader.head] > KIND for reader in readers)
    return Chain(speakers, INPUTS[way], readers, bool(INPUTS[way] == "k" and follows))


def speaker_of(view: View, at_once: np.ndarray, head: int) -> Speaker:
    """A sender whose paths into all later heads have these shares, [3 2]."""
    alone = tuple(float(view.shares(direction, "z").ravel()[head]) for direction in DIRECTIONS)
    return Speaker(head, alone, {way: tuple(map(float, shares)) for way, shares in zip(INPUTS, at_once, strict=True)})


def readers_of(view: View, row: int, way: str) -> tuple[Reader, ...]:
    """The heads into which a sender's single paths carry most."""
    shares = [view.shares(direction, f"path_{way}")[row].ravel() for direction in DIRECTIONS]
    single = np.stack(shares, axis=-1)
    per_unit = view.n_layers * view.n_heads // len(single)
    units = alike(np.abs(single).mean(-1))
    return tuple(Reader(i * per_unit + j, tuple(map(float, single[i]))) for i in units for j in range(per_unit))


def alike(sizes: np.ndarray) -> list[int]:
    """The largest, and those that are nearly as large."""
    order = np.argsort(-sizes, kind="stable")[:MOST]
    return [int(i) for i in order if sizes[i] >= ALIKE * sizes[order[0]]]


def sentence(view: View, chain: Chain | None) -> str:
    """The circuit, with numbers."""
    if not view.is_clear:
        whole = cell_text(interval(view.better_by))
        above, higher = ("above", "higher") if view.sense > 0 else ("below", "lower")
        return (
            f"On clean prompts the {view.unit} is not {above} that on corrupted ones beyond chance (it is {higher} by {whole}):"
            f" {NOTHING}."
        )
    if not view.has("path_all"):
        return f"{no_paths(view)} So no circuit is named."
    if chain is None:
        return "No direct path from a head into another carries a part of the effect that is worth the name."
    ways = sorted(WAYS, key=lambda way: way != chain.way)
    found = [name_of(view, chain)]
    for head, alone, at_once in chain.speakers[:IN_FULL]:
        paths = ", ".join(f"{WAYS[way]} {both(at_once[way])}" for way in ways)
        found.append(
            f"Head {view.node_name(head)} itself: {both(alone)}; by direct paths into all later heads at once: {paths}."
        )
    return " ".join(found)


def no_paths(view: View) -> str:
    """Why a report has no paths between heads."""
    if view.n_layers == 1:
        return "A model of one layer has no path from a head into another."
    return "The norms of this model rescale the stream after each layer, so no path is direct."


def name_of(view: View, chain: Chain) -> str:
    """Heads → way → heads."""
    begin, end = ([x.head for x in side] for side in (chain.speakers, chain.readers))
    if not chain.is_induction:
        speak, read = (", ".join(map(view.described, heads)) for heads in (begin, end))
        return f"The strongest chain is head{plural(begin)} {speak} → {WAYS[chain.way]} → head{plural(end)} {read}."
    speak, read = (
        ", ".join(f"{view.node_name(h)} ({getattr(view.kinds, kind).mean(0).ravel()[h]:.2f})" for h in heads)
        for kind, heads in (("previous", begin), ("induction", end))
    )
    return (
        f"Previous-token head{plural(begin)} {speak} → keys → induction head{plural(end)} {read}: an induction circuit, by"
        " K-composition."
    )


def plural(heads: list[int]) -> str:
    """The ending of "heads"."""
    return "s" if len(heads) > 1 else ""


def both(shares: Both) -> str:
    """What is restored and lost, for people."""
    return f"{percent(shares[0])} restored and {percent(shares[1])} lost"


def percent(share: float) -> str:
    """A share for people."""
    return f"{round(100 * share) + 0:d}%"


def as_data(view: View, chain: Chain | None) -> dict[str, Any]:
    """The circuit for programs; None in place of a chain where there is none."""
    found: dict[str, Any] = {
        "model": view.about["name"],
        "task": view.config.task.file or view.config.task.name,
        "corruption": view.config.task.corruption,
        "put in": view.config.source,
        "pairs": len(view.clean),
        "metric": view.config.metric,
        "clean": float(view.clean.mean()),
        "corrupted": float(view.corrupted.mean()),
        "heads": {direction: view.shares(direction, "z").tolist() for direction in DIRECTIONS},
        "chain": None,
    }
    if chain is None:
        return found
    pair = lambda shares: {DENOISING: shares[0], NOISING: shares[1]}
    speakers = [
        {"head": view.node_name(s.head), "alone": pair(s.alone)} | {way: pair(s.at_once[way]) for way in WAYS}
        for s in chain.speakers
    ]
    readers = [{"head": view.node_name(r.head), "path": pair(r.single)} for r in chain.readers]
    return found | {
        "chain": {"speakers": speakers, "way": chain.way, "readers": readers, "is_induction": chain.is_induction}
    }
