"""The batches of steps: rows in an order that is drawn, or whole windows where dictionaries are trained through the model."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from interp_jax.activations.harvest import counting
from interp_jax.activations.normaliser import Normaliser, normalised, restored
from interp_jax.dictionaries.end_to_end import Rest, error_through, rest_of
from interp_jax.dictionaries.judged import Batch
from interp_jax.experiments.dictionaries.config import Config
from interp_jax.experiments.dictionaries.finite import check_finite
from interp_jax.experiments.dictionaries.subject import (
    MEASURED,
    Both,
    Configs,
    Shared,
    gathered,
    in_order,
    rows,
    windows_behind,
)
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig


class Through(NamedTuple):
    """What dictionaries are judged with that are trained through the model.

    Attributes:
      x: the stream of windows, as it is.
      counts: where the dictionary speaks.
      params: of the model.
      normal: how what is said was normalised.
    """

    x: Float[Array, "T W P D"]
    counts: Bool[Array, "T W P"]
    params: Params
    normal: Normaliser


class Stream(NamedTuple):
    """The activations of the steps from `first` on, of all places, normalised; `through` where the model judges."""

    first: Int32[Array, ""]
    read: Float[Array, "S T B D"]
    write: Float[Array, "S T B O"]
    through: Through | None = None


def stream(config: Config, cfgs: Configs, shared: Shared, first: Int32[Array, ""]) -> Stream:
    """The stretch that begins with a step; the one that normalisers were fitted to is not among them."""
    b = MEASURED + 1 + first // config.stream_steps
    if config.objective == "end_to_end":
        return whole_windows(config, cfgs, shared, first, b)
    found = rows(config, cfgs, shared, b)
    return Stream(first, *place_by_place(found, shared))


def place_by_place(found: Both, shared: Shared) -> list[Float[Array, "S T B D"]]:
    """What is read and what is said, normalised."""
    return [jax.vmap(normalised)(found[name], shared.normal[name]) for name in ("read", "write")]


def from_store(config: Config, shared: Shared, first: Int32[Array, ""], found: dict[str, Array]) -> Stream:
    """The same of what was loaded: `read i` of every place i, and `write i` where something else is said."""
    said = {name.replace("read", "write"): x for name, x in found.items()} | found
    both = gathered(config, [dict(sorted(said.items(), key=lambda named: int(named[0].split()[1])))])
    return Stream(first, *place_by_place({name: x.astype(jnp.float32) for name, x in both.items()}, shared))


def whole_windows(config: Config, cfgs: Configs, shared: Shared, first: Int32[Array, ""], b: Any) -> Stream:
    """Windows in their order, without their first positions."""
    length, skip = cfgs[0].n_context, config.harvest.skip_first
    each = config.batch_size // length
    text = (shared.train, shared.prefix)
    tokens = windows_behind(text, config.stream_seed, b, config.stream_steps * each, length)
    tokens = tokens.reshape(config.stream_steps, each, length)
    x = jax.lax.map(lambda some: in_order(config, cfgs, shared, some)["read"][0], tokens)
    counts = counting(config.harvest, tokens, x.reshape(-1, x.shape[-1])).reshape(tokens.shape)
    normal = {name: here(by, 0) for name, by in shared.normal.items()}
    read = normalised(x[:, :, skip:].reshape(config.stream_steps, -1, x.shape[-1]), normal["read"])[None]
    return Stream(first, read, read, Through(x, counts, shared.models[0], normal["write"]))


def here(by: Normaliser, place: Any) -> Normaliser:
    """How activations of one place are normalised."""
    return Normaliser(*(leaf[place] for leaf in by))


def batch_of(cfgs: Configs, hypers: Config, stream: Stream, seed: Array, step: Array) -> Batch:
    """The activations of a step, and what judges what is said of them."""
    at = lambda x: jax.lax.dynamic_index_in_dim(x, step - stream.first, keepdims=False)
    own = lambda x: jax.lax.dynamic_slice(x, (hypers.place, step - stream.first, 0, 0), (1, 1, *x.shape[2:]))[0, 0]
    batch = Batch(own(stream.read), own(stream.write))
    if stream.through is None:
        return batch
    x, counts, skip = at(stream.through.x), at(stream.through.counts), hypers.harvest.skip_first
    judge = error_through(rest(hypers, cfgs[0], stream.through.params), x, counts, hypers.later)

    def error(said: Float[Array, "B D"]) -> Float[Array, ""]:
        own = restored(said, stream.through.normal).reshape(x[:, skip:].shape)
        return judge(jnp.concatenate([x[:, :skip], own], axis=1).reshape(-1, x.shape[-1]))

    return batch._replace(error=error)


def rest(config: Config, cfg: TransformerConfig, params: Params) -> Rest:
    """The model after the place that is read."""
    ((site, _, depth),) = config.places
    layer = depth % cfg.n_layers + (site == "blocks.resid_post")
    one = lambda x, at: transformer.blocks(params, x, cfg, first_layer=at, stop_layer=at + 1)[0]
    return rest_of(one, partial(_logits, cfg, params), range(layer, cfg.n_layers))


def _logits(cfg: TransformerConfig, params: Params, x: Array) -> Array:
    return transformer.unembed(params, x, cfg)


def refuse(config: Config, stream: Stream) -> None:
    """Raise `InputError` for activations that are not finite, naming the place, the step and the example."""
    check_finite(config, {"read": stream.read, "write": stream.write}, int(stream.first))
