"""What dictionaries of a group read: one or two models, places in them, the text, and how activations are normalised."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from interp_jax.activations.harvest import Harvest, Model, Place, rows_of, stretch
from interp_jax.activations.normaliser import Normaliser, fit, on_device, side_by_side
from interp_jax.data.text import spread_windows, windows
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.dictionaries import stored
from interp_jax.experiments.dictionaries.config import Config
from interp_jax.experiments.grow.stream import shared_arrays
from interp_jax.experiments.loop import digest
from interp_jax.experiments.subjects.grown import GrownRun, find_run, is_run_directory, load_run
from interp_jax.models import transformer
from interp_jax.models.sites import sites
from interp_jax.models.transformer import Params, TransformerConfig

MEASURED = 0  # the stretch by which activations are normalised
Configs = tuple[TransformerConfig, ...]
Both = dict[str, Float[Array, "..."]]  # "read" and "write"


class Shared(NamedTuple):
    """What all members read.

    Attributes:
      models: the parameters of each.
      train: the text they were grown on.
      held_out: windows to measure on, with a target more.
      normal: by name ("read", "write"), how activations are normalised.
      mean: of what is said, as it is.
      store: what tells the store apart that is read, if one is.
    """

    models: tuple[Params, ...]
    train: Int[Array, " N"]
    held_out: Int[Array, "W N"]
    normal: dict[str, Normaliser]
    mean: Float[Array, "..."]
    store: Any = ()


def subject(config: Config) -> tuple[Configs, Shared]:
    """The models' configurations, and all that is read of them.

    Raises:
      InputError: no finished run on text, two of different texts, or a place that is not there.
    """
    grown = [grown_on_text("model", config.model)]
    if config.other.path:
        grown.append(grown_on_text("other", config.other))
        if grown[0].member.part.data != grown[1].member.part.data:
            raise InputError(f"other.path = {config.other.path!r}: it was grown on another text than model.path")
    cfgs = tuple(run.member.part.model for run in grown)
    for run, cfg in zip(grown, cfgs, strict=True):
        check_place(config, cfg, run.name)
    if len({cfg.n_context for cfg in cfgs}) > 1:
        raise InputError("other.path: the two models read windows of different lengths")
    check_widths(config, cfgs)
    arrays, models = shared_arrays(grown[0].member.part), tuple(load_run(run) for run in grown)
    held_out = spread_windows(np.asarray(arrays.held_out).ravel(), config.measure.windows, cfgs[0].n_context + 1)
    shared = Shared(models, jnp.asarray(arrays.train), jnp.asarray(held_out), {}, jnp.zeros(()))
    return cfgs, prepared(config, cfgs, shared)


def grown_on_text(field: str, model: Any) -> GrownRun:
    """The run of a directory."""
    if not model.path or not is_run_directory(model.path):
        raise InputError(
            f"{field}.path = {model.path!r}: give the directory of a finished configs/grow.py, whose text is read too"
        )
    return find_run(model.path, model.run)


def prepared(config: Config, cfgs: Configs, shared: Shared) -> Shared:
    """With maps and means, of a stretch of their own; and with what tells a store apart, after a look at what it holds."""
    if config.store:
        identity = stored.identity(config, places(config, cfgs[0]), digest(shared.models[0]))
        shared = shared._replace(store=jnp.asarray(identity))
    found = jax.jit(partial(rows, config, cfgs))(shared, MEASURED)
    check_finite(config, found)
    pieces = len(cfgs) * len(config.depths)
    maps = {}
    for name, x in found.items():
        parts = np.split(np.asarray(x).reshape(-1, x.shape[-1]), pieces, axis=1)
        maps[name] = on_device(side_by_side([fit(part, config.normalise) for part in parts]))
    return shared._replace(normal=maps, mean=found["write"].mean((0, 1)))


def check_finite(config: Config, found: Mapping[str, Float[Array, "T B D"]], first: int | None = None) -> None:
    """Raise `InputError` for activations that are not finite, naming the place, the model, the step and the example.

    An infinite activation of a model makes every later one of its window infinite too; the first is named. Whitening mixes
    dimensions, and those of all places of a crosscoder: they are then named together.

    Args:
      config: what is read.
      found: by name ("read", "write"), rows of steps.
      first: the step that they begin with; None where they are those by which activations are normalised, as they are.
    """
    for name, site in zip(("read", "write"), config.sites, strict=True):
        where = int(first_not_finite(found[name]))
        if where < 0:
            continue
        _, B, D = found[name].shape
        step, example, dimension = where // (B * D), where // D % B, where % D
        mixed = first is not None and config.normalise.method == "whiten"
        place, own = place_of(config, dimension, D, mixed)
        of = f"step {first + step}" if first is not None else f"the sample that normalises them, batch {step}"
        raise InputError(
            f"activations of {site}, {place}, are not finite: {of}, example {example}"
            f"{'' if mixed else f', dimension {own}'}; nothing was trained on them"
        )


def place_of(config: Config, dimension: int, width: int, mixed: bool) -> tuple[str, int]:
    """Layer and model, in words, of one of the dimensions side by side, and which it is there; all places if `mixed`."""
    models = [x.path or "the model" for x in (config.model, config.other) if x is config.model or x.path]
    each = width // (len(models) * len(config.depths))
    if mixed and each < width:
        layers = ", ".join(map(str, config.depths))
        return f"one of layers {layers}, of {' or '.join(models)}", dimension
    model, layer = divmod(dimension // each, len(config.depths))
    return f"layer {config.depths[layer]}, of {models[model]}", dimension % each


@jax.jit
def first_not_finite(x: Float[Array, "..."]) -> Int32[Array, ""]:
    """The flat index of the first element that is not finite; -1 where all are."""
    bad = ~jnp.isfinite(x).reshape(-1)
    return jnp.where(bad.any(), bad.argmax(), -1).astype(jnp.int32)


def check_place(config: Config, cfg: TransformerConfig, name: str) -> None:
    """Raise `InputError` for a site or layer that the model lacks."""
    for layer in config.depths:
        if not -cfg.n_layers <= layer < cfg.n_layers:
            raise InputError(f"layer = {layer}: {name} has {cfg.n_layers} layers")
    for site in config.sites:
        if site not in (known := vectors(cfg)):
            raise InputError(f"{site!r}: not a site of vectors in every layer of {name}; {nearest(site, known)}")


def check_widths(config: Config, cfgs: Configs) -> None:
    """Raise `InputError` for a dictionary of another width than its places have together."""
    for field, site in {"d_in": config.site, **({"d_out": config.writes} if config.writes else {})}.items():
        each = [vectors(cfg)[site] for cfg in cfgs for _ in config.depths]
        if (given := getattr(config.dictionary, field)) != sum(each):
            sizes = " and ".join(map(str, each))
            raise InputError(f"dictionary.{field} = {given}: {site!r} is {sizes} wide")
        if len(set(each)) > 1:
            raise InputError(
                f"other.path: {site!r} is as wide in both models as pieces of a crosscoder are, not {each}"
            )


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
    """What is read and what is said of a model, layer by layer."""
    depths = [layer % cfg.n_layers for layer in config.depths]
    named = dict(zip(("read", "write"), config.sites, strict=True))
    return {f"{name} {i}": Place(site, layer) for name, site in named.items() for i, layer in enumerate(depths)}


def joined(found: list[dict[str, Array]]) -> Both:
    """The places of all models side by side: of each model its layers."""
    of = lambda name: [x for each in found for key, x in each.items() if key.startswith(name)]
    return {name: jnp.concatenate(of(name), axis=-1) for name in ("read", "write")}


def rows(config: Config, cfgs: Configs, shared: Shared, b: Any) -> Both:
    """Activations of a stretch, as they are; the same rows of all models."""
    sizes = (config.stream_steps, config.batch_size)

    def of(cfg: TransformerConfig, params: Params) -> dict[str, Array]:
        here = places(config, cfg)
        return harvested(cfg, params, shared.train, here, config.harvest, sizes, config.stream_seed, b)

    return joined([of(*each) for each in zip(cfgs, shared.models, strict=True)])


def harvested(
    cfg: TransformerConfig,
    params: Params,
    train: Int[Array, " N"],
    here: Mapping[str, Place],
    harvest: Harvest,
    sizes: tuple[int, int],
    seed: int,
    b: Any,
) -> dict[str, Float[Array, "T B D"]]:
    """A stretch of a model on its text, of so many steps and rows."""
    take = lambda seed, b, n: windows(train, seed, b, n, cfg.n_context)
    return stretch(as_far_as(cfg, params, here), take, here, harvest, (*sizes, cfg.n_context), seed, b)


def in_order(config: Config, cfgs: Configs, shared: Shared, tokens: Int[Array, "W P"]) -> Both:
    """Activations of windows [W P D], as they are."""

    def of(cfg: TransformerConfig, params: Params) -> dict[str, Array]:
        here = places(config, cfg)
        return dict(zip(here, rows_of(as_far_as(cfg, params, here), tokens, list(here.values())), strict=True))

    return joined([of(*each) for each in zip(cfgs, shared.models, strict=True)])
