"""What dictionaries of a group read: one or two models, places in them, the text, and how activations are normalised."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.activations.harvest import Harvest, Model, Place, rows_of, stretch
from interp_jax.activations.normaliser import Normaliser, fit, on_device, side_by_side, stacked
from interp_jax.data.text import spread_windows, windows
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.dictionaries import stored
from interp_jax.experiments.dictionaries.config import Config
from interp_jax.experiments.dictionaries.finite import check_finite
from interp_jax.experiments.loop import digest
from interp_jax.experiments.subjects.model import load_params, subject_of
from interp_jax.experiments.subjects.text import behind, check_length, is_grown, reading, text_of
from interp_jax.models import transformer
from interp_jax.models.sites import sites
from interp_jax.models.transformer import Params, TransformerConfig

NOTHING = np.zeros(0, np.int32)
MEASURED = 0  # the stretch by which activations are normalised
Configs = tuple[TransformerConfig, ...]
Both = dict[str, Float[Array, "..."]]  # "read" and "write"


class Shared(NamedTuple):
    """What all members read.

    Attributes:
      models: the parameters of each.
      train: the text they were grown on.
      held_out: windows to measure on, with a target more.
      normal: by name ("read", "write"), how activations are normalised; of all places, S of them.
      mean: of what is said, as it is.
      store: what tells the store apart that is read, if one is.
      prefix: tokens before every window.
    """

    models: tuple[Params, ...]
    train: Int[Array, " N"]
    held_out: Int[Array, "W N"]
    normal: dict[str, Normaliser]
    mean: Float[Array, "..."]
    store: Any = ()
    prefix: Int[Array | np.ndarray, " b"] = NOTHING


def subject(config: Config) -> tuple[Configs, Shared]:
    """The models' configurations, with the context of the windows, and all that is read of them.

    Raises:
      InputError: no model with a text, two that read different tokens, or a place that is not there.
    """
    models = {"model": config.model} | ({"other": config.other} if config.other.path else {})
    texts = {field: text_of(field, model, config.data) for field, model in models.items()}
    subjects = {field: subject_of(model) for field, model in models.items()}
    cfgs = tuple(reading(field, subjects[field], is_grown(model), config.context) for field, model in models.items())
    for each, cfg in zip(subjects.values(), cfgs, strict=True):
        check_place(config, cfg, each.name)
    text = texts["model"]
    if not all(np.array_equal(text.train, x.train) and text.prefix == x.prefix for x in texts.values()):
        raise InputError(f"other.path = {config.other.path!r}: it reads other tokens than model.path: another text")
    if len({cfg.n_context for cfg in cfgs}) > 1:
        raise InputError("other.path: the two models read windows of different lengths: give --config.context")
    check_widths(config, cfgs)
    length = cfgs[0].n_context
    check_length(text, length)
    held_out = spread_windows(text.held_out, config.measure.windows, length + 1 - len(text.prefix))
    arrays = (jnp.asarray(text.train), jnp.asarray(behind(text.prefix, held_out)))
    weights = tuple(load_params(model) for model in models.values())
    shared = Shared(weights, *arrays, {}, jnp.zeros(()), prefix=jnp.asarray(text.prefix, jnp.int32))
    return cfgs, prepared(config, cfgs, shared)


def prepared(config: Config, cfgs: Configs, shared: Shared) -> Shared:
    """With maps and means, of a stretch of their own; and with what tells a store apart, after a look at what it holds."""
    if config.store:
        identity = stored.identity(config, places(config, cfgs[0]), digest(shared.models[0]))
        shared = shared._replace(store=jnp.asarray(identity))
    found = jax.jit(partial(rows, config, cfgs))(shared, MEASURED)
    check_finite(config, found)
    maps = {}
    for name, x in found.items():
        each = [[fit(part, config.normalise) for part in parts_of(config, place)] for place in np.asarray(x)]
        maps[name] = on_device(stacked([side_by_side(parts) for parts in each]))
    return shared._replace(normal=maps, mean=found["write"].mean((1, 2)))


def parts_of(config: Config, x: Float[np.ndarray, "T B D"]) -> list[Float[np.ndarray, "N I"]]:
    """The pieces of rows."""
    return np.split(x.reshape(-1, x.shape[-1]), config.dictionary.pieces, axis=1)


def check_place(config: Config, cfg: TransformerConfig, name: str) -> None:
    """Raise `InputError` for a site or layer that the model lacks."""
    for read, write, layer in config.places:
        if not -cfg.n_layers <= layer < cfg.n_layers:
            raise InputError(f"layers = {config.layers}: {name} has {cfg.n_layers} layers, so none is {layer}")
        for site in (read, write):
            if site not in (known := vectors(cfg)):
                raise InputError(f"{site!r}: not a site of vectors in every layer of {name}; {nearest(site, known)}")


def check_widths(config: Config, cfgs: Configs) -> None:
    """Raise `InputError` for a dictionary of another width than its places have, together or each."""
    for field, which in (("d_in", 0), *([("d_out", 1)] if config.writes else ())):
        each = {f"{place[which]!r}": [vectors(cfg)[place[which]] for cfg in cfgs] for place in config.places}
        for site, wide in each.items():
            if len(set(wide)) > 1:
                raise InputError(
                    f"other.path: {site} is as wide in both models as pieces of a crosscoder are, not {wide}"
                )
        widths = [width for site in config.places for width in each[f"{site[which]!r}"]]
        given, sizes = getattr(config.dictionary, field), " and ".join(map(str, widths))
        if len(set(widths)) > 1:
            raise InputError(
                f"sites = {config.sites}: {sizes} wide; members of one population, and pieces, are of one width: a run for each"
            )
        if given != (sum(widths) if config.dictionary.pieces > 1 else widths[0]):
            wide = sizes if config.dictionary.pieces > 1 else widths[0]
            raise InputError(f"dictionary.{field} = {given}: {' and '.join(each)} is {wide} wide")


def vectors(cfg: TransformerConfig) -> dict[str, int]:
    """Widths of the sites that have a vector for each position, in every layer; heads side by side."""
    widths = {"D": cfg.d_model, "E": cfg.n_heads * cfg.d_head, "M": cfg.d_mlp}
    last = {site.name: site.shape.split()[-1] for site in sites(cfg) if site.name.startswith("blocks.")}
    return {name: widths[axis] for name, axis in last.items() if axis in widths}


def model_of(cfg: TransformerConfig, params: Params) -> Model:
    """Tokens -> logits."""
    return lambda tokens: transformer.apply(params, tokens, cfg)


def as_far_as(cfg: TransformerConfig, params: Params, here: Mapping[str, Place]) -> Model:
    """Tokens -> the stream above the highest of some places: what lies above them is not computed."""
    stop = 1 + max(place.layer for place in here.values())
    return lambda tokens: transformer.stream(params, tokens, cfg, stop_layer=stop)


def places(config: Config, cfg: TransformerConfig) -> dict[str, Place]:
    """What is read and what is said of a model, place by place."""
    found = {f"read {i}": Place(read, layer % cfg.n_layers) for i, (read, _, layer) in enumerate(config.places)}
    said = {f"write {i}": Place(write, layer % cfg.n_layers) for i, (_, write, layer) in enumerate(config.places)}
    return found | said


def gathered(config: Config, found: list[dict[str, Array]]) -> Both:
    """What members read and say [S …]: the places of all models side by side, S = 1, or each by itself."""
    of = lambda name: [x for each in found for key, x in each.items() if key.startswith(name)]
    if config.dictionary.pieces > 1:
        return {name: jnp.concatenate(of(name), axis=-1)[None] for name in ("read", "write")}
    return {name: jnp.stack(of(name)) for name in ("read", "write")}


def rows(config: Config, cfgs: Configs, shared: Shared, b: Any) -> Both:
    """Activations of a stretch [S T B D], as they are; the same rows of all places and models."""
    sizes = (config.stream_steps, config.batch_size)

    def of(cfg: TransformerConfig, params: Params) -> dict[str, Array]:
        here, text = places(config, cfg), (shared.train, shared.prefix)
        return harvested(cfg, params, text, here, config.harvest, sizes, config.stream_seed, b)

    return gathered(config, [of(*each) for each in zip(cfgs, shared.models, strict=True)])


def harvested(
    cfg: TransformerConfig,
    params: Params,
    text: tuple[Int[Array, " N"], Int[Array | np.ndarray, " b"]],
    here: Mapping[str, Place],
    harvest: Harvest,
    sizes: tuple[int, int],
    seed: int,
    b: Any,
) -> dict[str, Float[Array, "T B D"]]:
    """A stretch of a model on its text, with what stands before each window, of so many steps and rows."""
    take = lambda seed, b, n: windows_behind(text, seed, b, n, cfg.n_context)
    return stretch(as_far_as(cfg, params, here), take, here, harvest, (*sizes, cfg.n_context), seed, b)


def windows_behind(
    text: tuple[Int[Array, " N"], Int[Array | np.ndarray, " b"]], seed: Any, b: Any, n: int, length: int
) -> Int[Array, "n P"]:
    """Windows of a text, each behind the tokens before it; so long with them."""
    train, prefix = text
    found = windows(train, seed, b, n, length - len(prefix))
    return jnp.concatenate([jnp.broadcast_to(prefix, (n, len(prefix))), found], axis=1)


def in_order(config: Config, cfgs: Configs, shared: Shared, tokens: Int[Array, "W P"]) -> Both:
    """Activations of windows [S W P D], as they are."""

    def of(cfg: TransformerConfig, params: Params) -> dict[str, Array]:
        here = places(config, cfg)
        return dict(zip(here, rows_of(as_far_as(cfg, params, here), tokens, list(here.values())), strict=True))

    return gathered(config, [of(*each) for each in zip(cfgs, shared.models, strict=True)])
