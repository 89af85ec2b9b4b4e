"""What erasing does to a model's loss: of a variable at a place, at the best places along training, and at every layer.

Losses are those of windows spread over all, summed by group over the tokens that count: every one, or those at which the
variable changes. See `use.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from interp_jax import taps
from interp_jax.activations.moment_harvest import Labelled
from interp_jax.data.probing.variables import NONE, Annotated, known
from interp_jax.errors import InputError
from interp_jax.experiments.probing.config import Config
from interp_jax.experiments.probing.erasers import (
    BY_MOMENTS,
    TOLD,
    Erasers,
    ToldErasers,
    erasers,
    targets_of,
    told_erasers,
)
from interp_jax.experiments.probing.models import Place
from interp_jax.experiments.probing.rows import Rows
from interp_jax.experiments.probing.use import scrubbers, stream_of, token_losses_under
from interp_jax.experiments.subjects.model import Subject
from interp_jax.models.sites import sites
from interp_jax.models.transformer import Params

ALL, TURNS = 0, 1  # which predicted tokens: every one, and those at which the variable changes


class Asked(NamedTuple):
    """What all models of a run are asked."""

    config: Config
    subject: Subject
    data: Annotated
    rows: Rows
    places: list[Place]


class Erased(NamedTuple):
    """What erasing did: see the module; of some pairs of a place and a variable."""

    rank: list[int]
    taken: list[float]
    taken_at_random: list[float]
    sums: Float[np.ndarray, "U E 2 G"]
    loss: float


def can_erase(asked: Asked) -> bool:
    """Whether the model predicts the next token from what is read, one vector, and padding, on the right, changes nothing."""
    causal = asked.subject.cfg.causal and asked.subject.cfg.head != "none"
    padded, column = asked.data.positions, np.arange(asked.data.tokens.shape[1])
    vector = {site.name for site in sites(asked.subject.cfg) if len(site.shape.split()) == 3}
    one = len(asked.config.reading.sites) == 1 and asked.config.reading.sites[0] in vector
    return causal and one and bool(((padded == column) | (padded < 0)).all())


def can_scrub(asked: Asked) -> bool:
    """Whether variables are erased at every layer, too."""
    return asked.config.use.scrubbed > 0 and asked.config.use.eraser in BY_MOMENTS


def check_eraser(asked: Asked) -> None:
    """Raise `InputError` where classes must be told, and a variable has none."""
    numbers = [name for name, variable in asked.rows.variables.items() if variable.is_number]
    if asked.config.use.eraser == "transport" and numbers:
        raise InputError(
            f"use.eraser = 'transport': {numbers[0]!r} is a number; give data.variables that are classes, or 'mean'"
        )


def windows_of_use(asked: Asked) -> Int[np.ndarray, " U"]:
    """Which windows use is measured on: spread over all."""
    return spread(asked, asked.config.use.windows)


def spread(asked: Asked, count: int) -> Int[np.ndarray, " U"]:
    """So many windows, spread over all."""
    n = len(asked.data.tokens)
    return np.unique(np.linspace(0, n - 1, min(count, n)).round().astype(int))


def masks(asked: Asked) -> Float[np.ndarray, "V 2 W _"]:
    """Which predicted tokens count: all but padding, and of these those that change the variable."""
    at, found = windows_of_use(asked), []
    there = np.broadcast_to(asked.data.positions, asked.data.tokens.shape)[at, 1:] >= 0
    for name in asked.rows.variables:
        label = asked.data.labels[name][at]
        now, then = label[:, :-1], label[:, 1:]
        found.append(np.stack([there, there & known(now) & known(then) & (now != then)]))
    return np.stack(found).astype(np.float64)


def by_group(x: Float[np.ndarray, "*N W"], asked: Asked) -> Float[np.ndarray, "*N G"]:
    """Sums over the windows of each group."""
    group = asked.data.group[windows_of_use(asked)]
    return np.stack([x[..., group == g].sum(-1) for g in np.unique(group)], axis=-1)


def counts(asked: Asked) -> Float[np.ndarray, "V 2 G"]:
    """Tokens that count, by variable and group."""
    return by_group(masks(asked).sum(-1), asked)


def erase(
    params: Params, x: Sequence[Float[Array, "B _"]], asked: Asked, pairs: list[tuple[int, int]], seed: int
) -> Erased:
    """Erases variables at places, one at a time, and as many random directions; see `erasers.py`."""
    swapped = swaps(params, asked) if asked.config.use.eraser == "interchange" else {}
    made = [made_of(x[s], v, asked.places[s].layer, asked, seed, swapped) for s, v in pairs]
    layers = np.array([asked.places[s].layer for s, _ in pairs])
    (site,) = asked.config.reading.sites
    tokens = jnp.asarray(asked.data.tokens[windows_of_use(asked)])
    clean, edited = token_losses_under(params, tokens, site, layers, [of.each for of in made], asked.subject.cfg)
    which = masks(asked)
    sums = risen(edited - clean, which[[v for _, v in pairs]], asked)
    column = lambda name: [getattr(of, name) for of in made]
    loss = float(np.average(clean, weights=which[0, ALL]))
    return Erased(column("rank"), column("taken"), column("taken_at_random"), sums, loss)


def made_of(
    x: Float[Array, "B D"], v: int, layer: int, asked: Asked, seed: int, swapped: dict[int, np.ndarray]
) -> Erasers | ToldErasers:
    """What takes a variable out at a place, and the controls."""
    name, use = list(asked.rows.variables)[v], asked.config.use
    labels, n_classes = asked.rows.of(name), len(asked.rows.variables[name].values)
    if use.eraser in TOLD:
        told = kept_labels(asked, name)[windows_of_use(asked), :-1]
        return told_erasers(x, labels, told, n_classes, layer, use.draws, seed, use.eraser)
    made = erasers(x, labels, n_classes, use.draws, seed, use.eraser)
    if layer not in swapped:
        return made
    return made._replace(each=[one._replace(centre=swapped[layer]) for one in made.each])


def swaps(params: Params, asked: Asked) -> dict[int, Float[np.ndarray, "W P D"]]:
    """Of each layer, what another window has at the same position; where either is padding, what the window itself has."""
    at = windows_of_use(asked)
    other, (site,) = np.roll(np.arange(len(at)), len(at) // 2), asked.config.reading.sites
    tokens = jnp.asarray(asked.data.tokens[at, :-1])
    _, acts = taps.record(stream_of(asked.subject.cfg), [site])(params, tokens)
    there = np.broadcast_to(asked.data.positions, asked.data.tokens.shape)[at, :-1] >= 0
    both = (there & there[other])[..., None]
    return {layer: np.where(both, own[other], own) for layer, own in enumerate(np.asarray(acts[site]))}


def scrub(params: Params, asked: Asked, seed: int) -> Float[np.ndarray, "V E 2 G"]:
    """What the loss rises by with each variable scrubbed from all layers, and with as many random directions.

    Only erasers that are made of moments alone can be made layer by layer: see `can_scrub`.
    """
    use, cfg, (site,) = asked.config.use, asked.subject.cfg, asked.config.reading.sites
    n_classes = max(
        len(v.values) for v in asked.rows.variables.values()
    )  # of all the same, so that one program serves them
    fitted, at_once = spread(asked, use.scrubbed), asked.config.reading.at_once
    made = []
    for name in asked.rows.variables:
        labels = kept_labels(asked, name)
        parts = [fitted[i : i + at_once] for i in range(0, len(fitted), at_once)]
        windows = [Labelled(asked.data.tokens[i], *targets_of(labels[i], n_classes)) for i in parts]
        made.append(scrubbers(params, windows, site, cfg, use.draws, seed, use.eraser))
    tokens = jnp.asarray(asked.data.tokens[windows_of_use(asked)])
    clean, edited = token_losses_under(params, tokens, site, None, made, cfg)
    return risen(edited - clean, masks(asked), asked)


def kept_labels(asked: Asked, name: str) -> Real[np.ndarray, "W P"]:
    """Labels of all tokens by the values that are read, -1 of the others; numbers as they are."""
    kept, data = asked.rows.variables[name].values, asked.data
    if data.variables[name].is_number:
        return data.labels[name]
    number = [kept.index(value) if value in kept else NONE for value in data.variables[name].values]
    return np.array([*number, NONE])[data.labels[name]]


def risen(
    by: Float[np.ndarray, "E U W P"], weight: Float[np.ndarray, "U 2 W P"], asked: Asked
) -> Float[np.ndarray, "U E 2 G"]:
    """Sums over tokens that count, by group."""
    return by_group(np.einsum("euwp,uowp->ueow", by.astype(np.float64), weight), asked)
