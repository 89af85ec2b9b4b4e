"""What is said of activations that are not finite: which they are, before anything is fitted to them or trained on them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from interp_jax.errors import InputError
from interp_jax.experiments.dictionaries.config import Config


def check_finite(config: Config, found: Mapping[str, Float[Array, "S T B D"]], first: int | None = None) -> None:
    """Raise `InputError` for activations that are not finite, naming the place, the model, the step and the example.

    An infinite activation of a model makes every later one of its window infinite too; the first is named. Whitening mixes
    dimensions, and those of all places of a crosscoder: they are then named together.

    Args:
      config: what is read.
      found: by name ("read", "write"), rows of steps: of places that are each read by itself, or of all side by side.
      first: the step that they begin with; None where they are those by which activations are normalised, as they are.
    """
    for which, name in enumerate(("read", "write")):
        where = int(first_not_finite(found[name]))
        if where < 0:
            continue
        place, step, example, dimension = map(int, np.unravel_index(where, found[name].shape))
        mixed = first is not None and config.normalise.method == "whiten"
        width = found[name].shape[-1] // config.dictionary.pieces
        piece = place if config.dictionary.pieces == 1 else dimension // width
        here = all_places(config, which) if mixed and config.dictionary.pieces > 1 else place_of(config, which, piece)
        of = f"step {first + step}" if first is not None else f"the sample that normalises them, batch {step}"
        raise InputError(
            f"activations of {here}, are not finite: {of}, example {example}"
            f"{'' if mixed else f', dimension {dimension % width}'}; nothing was trained on them"
        )


def place_of(config: Config, which: int, piece: int) -> str:
    """Site (0: what is read, 1: what is said), layer and model, in words, of one of the places side by side."""
    model, place = divmod(piece, len(config.places))
    return f"{config.places[place][which]}, layer {config.places[place][2]}, of {read_models(config)[model]}"


def all_places(config: Config, which: int) -> str:
    """The same of all of them together."""
    sites = " or ".join(dict.fromkeys(place[which] for place in config.places))
    layers = ", ".join(map(str, config.layers))
    return f"{sites}, one of layers {layers}, of {' or '.join(read_models(config))}"


def read_models(config: Config) -> list[str]:
    """The models that are read, in words."""
    return [config.model.path or "the model", *([config.other.path] if config.other.path else [])]


@jax.jit
def first_not_finite(x: Float[Array, "..."]) -> Int32[Array, ""]:
    """The flat index of the first element that is not finite; -1 where all are."""
    bad = ~jnp.isfinite(x).reshape(-1)
    return jnp.where(bad.any(), bad.argmax(), -1).astype(jnp.int32)
