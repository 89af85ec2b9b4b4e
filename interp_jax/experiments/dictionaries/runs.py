"""Train dictionaries on a place in a model, and measure on held-out text what they reconstruct and what the model loses.

Activations are divided by their mean length over √width, a number that is the same for all members. Observed of every member:

    sums.* [N …]                              N blocks of held-out activations; see `measures/fidelity.py`
    loss.WAY, kl.WAY [P]                      by position, mean over held-out windows; see `measures/spliced.py`
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from interp_jax.activations.harvest import Harvest, Model, Place, rows_of, stretch
from interp_jax.data.text import spread_windows, windows
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.measures.fidelity import dictionary_sums
from interp_jax.dictionaries.measures.spliced import spliced
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.dictionaries import stored
from interp_jax.experiments.dictionaries.config import Config
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.grow.stream import shared_arrays
from interp_jax.experiments.loop import digest
from interp_jax.experiments.subjects.grown import GrownRun, find_run, is_run_directory, load_run
from interp_jax.experiments.subjects.model import Model as Grown
from interp_jax.models import transformer
from interp_jax.models.sites import sites
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import RunState

MEASURED = 0  # the stretch by which activations are scaled


class Shared(NamedTuple):
    """What all members read.

    Attributes:
      params: the model's.
      train: the text it was grown on.
      held_out: windows to measure on, with a target more.
      scale: by name ("read", "write"), what activations are divided by.
      mean: of what is said, as it is.
      store: what tells the store apart that is read, if one is.
    """

    params: Params
    train: Int[Array, " N"]
    held_out: Int[Array, "W N"]
    scale: dict[str, Float[Array, ""]]
    mean: Float[Array, "..."]
    store: Any = ()


class Stream(NamedTuple):
    """The activations of the steps from `first` on, scaled."""

    first: Int32[Array, ""]
    read: Float[Array, "T B D"]
    write: Float[Array, "T B O"]


def experiment(config: Config) -> Experiment:
    """The runs of a group, which share one stream of activations.

    Raises:
      InputError: no finished run on text, a site that the model lacks, or a dictionary of another width.
    """
    cfg, shared = subject(config)
    observe_at = tuple(sorted({max(1, config.steps // part) for part in (10, 3, 1)}))
    run = dictionary_run(batch_of, described)
    made = Experiment(
        run, partial(observe, cfg), observe_at, shared, partial(stream, config, cfg), config.stream_steps
    )
    if not config.store:
        return made
    return made._replace(stream=as_stream, load=stored.loader(config, places(config, cfg)))


def subject(config: Config) -> tuple[TransformerConfig, Shared]:
    """The model's configuration, and all that is read of it."""
    run = grown_on_text(config.model)
    cfg = run.member.part.model
    check_place(config, cfg, run.name)
    arrays, params = shared_arrays(run.member.part), load_run(run)
    held_out = spread_windows(np.asarray(arrays.held_out).ravel(), config.measure.windows, cfg.n_context + 1)
    shared = Shared(params, jnp.asarray(arrays.train), jnp.asarray(held_out), {}, jnp.zeros(()))
    return cfg, scaled(config, cfg, shared)


def grown_on_text(model: Grown) -> GrownRun:
    """The run that a config means, whose text is read too.

    Raises:
      InputError: no directory of runs, none that is finished, or several.
    """
    if not model.path or not is_run_directory(model.path):
        raise InputError(
            f"model.path = {model.path!r}: give the directory of a finished configs/grow.py, whose text is read too"
        )
    return find_run(model.path, model.run)


def scaled(config: Config, cfg: TransformerConfig, shared: Shared) -> Shared:
    """With scales and means, of a stretch of their own, or as a store has them."""
    here = places(config, cfg)
    if config.store:
        return shared._replace(**stored.moments(config, here, digest(shared.params)))
    scale, mean = moments(jax.jit(partial(rows, config, cfg))(shared, MEASURED))
    return shared._replace(scale=scale, mean=mean["write"])


def moments(found: Mapping[str, Float[Array, "T B D"]]) -> tuple[dict[str, Array], dict[str, Array]]:
    """What rows are divided by, their mean length over √width; and their mean."""
    lengths = {name: jnp.linalg.norm(x, axis=-1).mean() / x.shape[-1] ** 0.5 for name, x in found.items()}
    return lengths, {name: x.mean((0, 1)) for name, x in found.items()}


def check_place(config: Config, cfg: TransformerConfig, name: str) -> None:
    """Raise `InputError` for a site or layer that the model lacks, and a dictionary of another width."""
    if not -cfg.n_layers <= config.layer < cfg.n_layers:
        raise InputError(f"layer = {config.layer}: {name} has {cfg.n_layers} layers")
    vectors = widths_of(cfg)
    wanted = {"d_in": config.site} | ({"d_out": config.writes} if config.writes else {})
    for field, site in wanted.items():
        if site not in vectors:
            raise InputError(f"{site!r}: not a site of vectors in every layer of {name}; {nearest(site, vectors)}")
        if (given := getattr(config.dictionary, field)) != vectors[site]:
            raise InputError(f"dictionary.{field} = {given}: {site!r} of {name} is {vectors[site]} wide")


def widths_of(cfg: TransformerConfig) -> dict[str, int]:
    """The sites that have a vector for every position in every layer, and how wide it is."""
    widths = {"D": cfg.d_model, "E": cfg.n_heads * cfg.d_head, "M": cfg.d_mlp}
    last = {site.name: site.shape.split()[-1] for site in sites(cfg) if site.name.startswith("blocks.")}
    return {name: widths[axis] for name, axis in last.items() if axis in widths}


def model_of(cfg: TransformerConfig, params: Params) -> Model:
    """Tokens -> logits."""
    return lambda tokens: transformer.apply(params, tokens, cfg)


def places(config: Config, cfg: TransformerConfig) -> dict[str, Place]:
    """What is read and what is said."""
    layer = config.layer % cfg.n_layers
    return {name: Place(site, layer) for name, site in zip(("read", "write"), config.sites, strict=True)}


def rows(config: Config, cfg: TransformerConfig, shared: Shared, b: Any) -> dict[str, Float[Array, "T B D"]]:
    """Activations of a stretch, as they are."""
    shape = (config.stream_steps, config.batch_size, cfg.n_context)
    return harvested(cfg, shared, places(config, cfg), config.harvest, shape, config.stream_seed, b)


def harvested(
    cfg: TransformerConfig,
    shared: Shared,
    here: Mapping[str, Place],
    harvest: Harvest,
    shape: tuple[int, int, int],
    seed: int,
    b: Any,
) -> dict[str, Float[Array, "T B D"]]:
    """A stretch of the model on its text."""
    take = lambda seed, b, n: windows(shared.train, seed, b, n, cfg.n_context)
    return stretch(model_of(cfg, shared.params), take, here, harvest, shape, seed, b)


def stream(config: Config, cfg: TransformerConfig, shared: Shared, first: Int32[Array, ""]) -> Stream:
    """The stretch that begins with a step; the one that scales were measured on is not among them."""
    return as_stream(shared, first, rows(config, cfg, shared, MEASURED + 1 + first // config.stream_steps))


def as_stream(shared: Shared, first: Int32[Array, ""], found: Mapping[str, Float[Array, "T B D"]]) -> Stream:
    """Activations in float32, scaled; what is said is what is read where that is all there is."""
    both = found["read"], found.get("write", found["read"])
    scale = shared.scale["read"], shared.scale["write"]
    return Stream(first, *(x.astype(jnp.float32) / s for x, s in zip(both, scale, strict=True)))


def batch_of(hypers: Config, stream: Stream, seed: Array, step: Array) -> Batch:
    """The activations of a step."""
    return Batch(*(jax.lax.dynamic_index_in_dim(x, step - stream.first, keepdims=False) for x in stream[1:]))


def described(hypers: Config) -> tuple[Dictionary, Optimizer, int]:
    """The dictionary, its optimizer and its steps."""
    return hypers.dictionary, hypers.optimizer, hypers.steps


def observe(cfg: TransformerConfig, state: RunState, hypers: Config, shared: Shared) -> dict[str, Array]:
    """Fidelity, and the model's losses, on held-out windows."""
    model, here, own = model_of(cfg, shared.params), places(hypers, cfg), hypers.dictionary
    read, write = shared.scale["read"], shared.scale["write"]
    say = lambda x: dictionary.reconstruct(state.params, x / read, own)[0] * write

    def block(tokens: Int[Array, "W N"]) -> Any:
        x, y = (a.reshape(-1, a.shape[-1]) for a in rows_of(model, tokens[:, :-1], list(here.values())))
        found = spliced(model, tokens, hypers.sites, here["read"].layer, say, shared.mean)
        by_position = jax.tree.map(lambda a: a.mean(0), found)
        return dictionary_sums(state.params, Batch(x / read, y / write), own), by_position

    blocks = shared.held_out.reshape(-1, hypers.measure.at_once, shared.held_out.shape[1])
    summed, found = jax.lax.map(block, blocks)
    named = {f"sums.{name}": value for name, value in summed._asdict().items()}
    named |= {f"loss.{way}": value.mean(0) for way, value in found.loss.items()}
    return named | {f"kl.{way}": value.mean(0) for way, value in found.kl.items()}
