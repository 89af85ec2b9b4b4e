"""Where a dictionary reads, and where its features are looked at: its place in a model, or one of a crosscoder's pieces.

A crosscoder reads several places of a model, or the same ones of two models, a cross-layer transcoder all layers. What a
feature says is then as many vectors side by side, a piece for each place. It fires by all that is read; what it makes likely,
and what it does when it is clamped, is asked of one piece at a time, in the model that the piece is of.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax import taps
from interp_jax.activations.harvest import Harvest, Model, counting
from interp_jax.activations.harvest import Place as Harvested
from interp_jax.activations.normaliser import Normaliser, normalised, times
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import norms
from interp_jax.dictionaries.parameters import Params as Features
from interp_jax.errors import InputError
from interp_jax.experiments.dictionaries.config import Config as Trained
from interp_jax.experiments.dictionaries.subject import Configs, as_far_as, model_of, places
from interp_jax.models.transformer import Params

SCALE = "ln_final.scale"
ONCE = -1  # the layer of a site that is outside of the layers


class Piece(NamedTuple):
    """A place that is read, and where what is said of it stands: which model, the sites, their layer."""

    model: int
    read: str
    write: str
    layer: int


class Place(NamedTuple):
    """A dictionary's place: static.

    Attributes:
      cfgs: of the models.
      own: the dictionary.
      pieces: what it reads, side by side.
      chosen: the piece in which features are looked at.
      harvest: how its activations were harvested.
      first: the first of all places that were harvested, of the first model: by its rows' lengths tokens counted.
    """

    cfgs: Configs
    own: Dictionary
    pieces: tuple[Piece, ...]
    chosen: int
    harvest: Harvest
    first: Harvested

    @property
    def here(self) -> Piece:
        """The piece that is looked at."""
        return self.pieces[self.chosen]

    @property
    def scaled(self) -> bool:
        """Whether the logits are read off after a norm, whose divisor is to be known."""
        cfg = self.cfgs[self.here.model]
        return cfg.norm != "none" and cfg.head == "linear"


def pieces_of(trained: Trained, cfgs: Configs) -> tuple[Piece, ...]:
    """What a dictionary reads, in its order."""
    return tuple(
        Piece(i, read, write, layer % cfg.n_layers)
        for i, cfg in enumerate(cfgs)
        for read, write, layer in trained.read
    )


def place_of(trained: Trained, cfgs: Configs, chosen: int) -> Place:
    """The place of a dictionary.

    Raises:
      InputError: a piece that it lacks.
    """
    pieces = pieces_of(trained, cfgs)
    if not 0 <= chosen < len(pieces):
        has = f"{len(pieces)} pieces, counted from 0" if len(pieces) > 1 else "one piece, 0"
        raise InputError(f"dictionary.piece = {chosen}: the dictionary has {has}")
    return Place(cfgs, trained.dictionary, pieces, chosen, trained.harvest, places(trained, cfgs[0])["read 0"])


class Read(NamedTuple):
    """Of some windows.

    Attributes:
      f: features, 0 where tokens do not count.
      counts: which tokens do.
      inverse: 1 / `ln_final.scale` of the model that is looked at; 1 where there is none.
      written: what stands where the chosen piece writes.
    """

    f: Float[Array, "W P F"]
    counts: Bool[Array, "W P"]
    inverse: Float[Array, "W P"]
    written: Float[Array, "W P ..."]


class Subject(NamedTuple):
    """A dictionary and the models that it reads.

    Attributes:
      models: the parameters of each.
      features: the dictionary's.
      normal: by name ("read", "write"), how activations are normalised.
    """

    models: tuple[Params, ...]
    features: Features
    normal: dict[str, Normaliser]

    def rows(self, place: Place) -> Float[Array, "F O"]:
        """What each feature writes, as it is: of all pieces side by side."""
        return times(dictionary.rows(self.features, place.own), self.normal["write"].back)

    def rows_here(self, place: Place) -> Float[Array, "F D"]:
        """What it writes in the chosen piece."""
        return jnp.split(self.rows(place), place.own.pieces, axis=1)[place.chosen]

    def lengths(self, place: Place) -> Float[Array, "F I"]:
        """How long it is in each piece, in normalised units, in which pieces can be compared."""
        n = (place.own.n_features, place.own.pieces)
        return norms(dictionary.rows(self.features, place.own).reshape(n[0] * n[1], -1)).reshape(n)

    def model(self, place: Place) -> Model:
        """The one that is looked at."""
        return model_of(place.cfgs[place.here.model], self.models[place.here.model])


def read(tokens: Int[Array, "W P"], subject: Subject, place: Place) -> Read:
    """What a dictionary makes of windows."""
    here, flat = place.here, lambda x: x.reshape(tokens.size, -1)
    acts = [recorded(i, tokens, subject, place) for i in range(len(place.cfgs))]
    x = jnp.concatenate([flat(acts[piece.model][piece.read, piece.layer]) for piece in place.pieces], 1)
    f = dictionary.encode(subject.features, normalised(x, subject.normal["read"]), place.own).reshape(
        *tokens.shape, -1
    )
    first = flat(acts[0][tuple(place.first)]) if place.harvest.largest else x
    counts = counting(place.harvest, tokens, first).reshape(tokens.shape)  # as they did in training
    scale = acts[here.model].get((SCALE, ONCE))
    inverse = jnp.ones(tokens.shape) if scale is None else 1 / scale.reshape(tokens.shape)
    return Read(jnp.where(counts[..., None], f, 0.0), counts, inverse, acts[here.model][here.write, here.layer])


def recorded(i: int, tokens: Int[Array, "W P"], subject: Subject, place: Place) -> dict[tuple[str, int], Array]:
    """What is needed of a model, in one pass, by site and layer; one that is not looked at is run as far as it is read."""
    here, cfg, params = place.here, place.cfgs[i], subject.models[i]
    wanted = {(piece.read, piece.layer) for piece in place.pieces if piece.model == i}
    wanted |= {(here.write, here.layer)} if i == here.model else set()
    wanted |= {tuple(place.first)} if i == 0 and place.harvest.largest else set()
    layers = {site: tuple(sorted({at for name, at in wanted if name == site})) for site, _ in wanted}
    scaled = {SCALE: ...} if i == here.model and place.scaled else {}
    whole = model_of(cfg, params)
    model = whole if i == here.model else as_far_as(cfg, params, {str(at): Harvested(*at) for at in wanted})
    _, acts = taps.record(model, layers | scaled)(tokens)
    found = {(site, at): acts[site][n] for site, every in layers.items() for n, at in enumerate(every)}
    return found | {(site, ONCE): acts[site] for site in scaled}
