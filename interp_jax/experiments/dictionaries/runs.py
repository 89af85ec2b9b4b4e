"""Train dictionaries on places in a model, or in two, and measure on held-out text what they reconstruct and what models lose.

Members of a population may read different places: all are harvested in one pass, and each reads its own.

Observed of every member:

    sums.* [N …]                              N blocks of held-out activations that count as in training, as they are; see
                                              `measures/fidelity.py`
    loss.WAY, kl.WAY [I, P]                   by piece and position, mean over held-out windows; see `measures/spliced.py`
    lengths [F, I]                            of crosscoders: of each feature's row in each piece, in normalised units
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax.activations.harvest import Harvest, counting
from interp_jax.activations.normaliser import normalised, restored
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.measures.fidelity import sums
from interp_jax.dictionaries.measures.spliced import Spliced, spliced
from interp_jax.dictionaries.parameters import lengths_by_piece
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.dictionaries.sharded import check_sharded, on_mesh, shardings
from interp_jax.experiments.dictionaries import stored
from interp_jax.experiments.dictionaries.config import Config
from interp_jax.experiments.dictionaries.stream import batch_of, from_store, here, refuse, stream
from interp_jax.experiments.dictionaries.subject import Configs, Shared, in_order, model_of, places, subject
from interp_jax.experiments.dictionaries.told import complaint
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.subjects.text import settled
from interp_jax.train.mesh import grid_for
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import RunState


def reads(config: Config) -> Config:
    """What of a config its stream of activations is a function of: all but the dictionary's kind, and how it is trained."""
    own = config.dictionary
    shape = Dictionary(d_in=own.d_in, d_out=own.d_out, pieces=own.pieces)
    default = Config(dictionary=shape)
    trained = ("seed", "steps", "place", "later", "dictionary", "optimizer")
    return replace(config, **{name: getattr(default, name) for name in trained})


def reading(config: Config) -> tuple[Configs, Shared]:
    """The models' configurations, and what is read of them.

    Raises:
      InputError: no model with a text, a place that a model lacks, or a dictionary of another width.
    """
    return subject(replace(config, harvest=settled(config.harvest, config.model)))


def experiment(config: Config, read: tuple[Configs, Shared] | None = None) -> Experiment:
    """The runs of a group, which share one stream of activations.

    Args:
      config: of any member.
      read: as `reading` says; None asks it.

    Raises:
      InputError: as `reading`, or no whole window in a step.
    """
    cfgs, shared = reading(reads(config)) if read is None else read
    config = replace(config, harvest=settled(config.harvest, config.model))
    config.check_windows(cfgs[0].n_context)
    observe_at = tuple(sorted({max(1, config.steps // part) for part in (10, 3, 1)}))
    made = Experiment(
        dictionary_run(partial(batch_of, cfgs), described),
        partial(observe, cfgs, config.harvest),
        observe_at,
        shared,
        partial(stream, config, cfgs),
        config.stream_steps,
        refuse=partial(refuse, config),
        complain=partial(complaint, config.dictionary),
    )
    if config.dictionary.feature_shards > 1:
        made = over_devices(config, made)
    if not config.store:
        return made
    return made._replace(stream=partial(from_store, config), load=stored.loader(config, places(config, cfgs[0])))


def over_devices(config: Config, made: Experiment) -> Experiment:
    """The same of dictionaries that each lie over all devices: features over some, examples over as many as divide a batch.

    Raises:
      InputError: a dictionary that cannot lie so.
    """
    own = config.dictionary
    mesh = grid_for(own.feature_shards, config.batch_size)
    check_sharded(own, mesh)
    return made._replace(run=on_mesh(made.run, mesh), lay=lambda state: shardings(state, own, mesh))


def described(hypers: Config) -> tuple[Dictionary, Optimizer, int]:
    """The dictionary, its optimizer and its steps."""
    return hypers.dictionary, hypers.optimizer, hypers.steps


def observe(cfgs: Configs, harvest: Harvest, state: RunState, hypers: Config, shared: Shared) -> dict[str, Array]:
    """Fidelity, and the models' losses, on held-out windows."""
    own, place = hypers.dictionary, hypers.place
    normal = {name: here(by, place) for name, by in shared.normal.items()}

    def block(tokens: Int[Array, "W N"]) -> Any:
        found = in_order(hypers, cfgs, shared, tokens[:, :-1])
        x, y = (found[name][place].reshape(-1, found[name].shape[-1]) for name in ("read", "write"))
        first = found["read"][0].reshape(x.shape)[
            :, : own.d_in // own.pieces
        ]  # by whose lengths rows count in training
        counts = counting(harvest, tokens[:, :-1], first)
        said, f = dictionary.reconstruct(state.params, normalised(x, normal["read"]), own)
        said = restored(said, normal["write"])
        each = lost(cfgs, hypers, shared, tokens, said, counts.reshape(tokens[:, :-1].shape))
        by_piece = jax.tree.map(lambda *a: jnp.stack([part.mean(0) for part in a]), *each)
        return sums(y, said, f, counts), by_piece

    blocks = shared.held_out.reshape(-1, hypers.measure.at_once, shared.held_out.shape[1])
    summed, found = jax.lax.map(block, blocks)
    named = {f"sums.{name}": value for name, value in summed._asdict().items()}
    named |= {f"loss.{way}": value.mean(0) for way, value in found.loss.items()}
    named |= {f"kl.{way}": value.mean(0) for way, value in found.kl.items()}
    if own.pieces > 1 and own.kind != "cross_layer":
        named["lengths"] = lengths_by_piece(state.params, own)
    return named


def lost(
    cfgs: Configs,
    hypers: Config,
    shared: Shared,
    tokens: Int[Array, "W N"],
    said: Float[Array, "M O"],
    speaks: Bool[Array, "W P"],
) -> list[Spliced]:
    """What models lose where a dictionary speaks: at each of its pieces alone, or at the one place of this member."""
    pieces, mean = hypers.dictionary.pieces, shared.mean[hypers.place]
    if pieces > 1:
        at = [(*each, place) for each in zip(cfgs, shared.models, strict=True) for place in hypers.places]
        parts = zip(at, jnp.split(said, pieces, 1), jnp.split(mean, pieces), strict=True)
        return [
            spliced(
                model_of(cfg, params),
                tokens,
                (write, write),
                layer % cfg.n_layers,
                lambda _, part=part: part,
                mean,
                speaks,
            )
            for (cfg, params, (_, write, layer)), part, mean in parts
        ]
    (cfg,), (params,) = cfgs, shared.models
    written = list(dict.fromkeys(write for _, write, _ in hypers.places))
    layer = jnp.asarray([layer % cfg.n_layers for *_, layer in hypers.places])[hypers.place]
    which = jnp.asarray([written.index(write) for _, write, _ in hypers.places])[hypers.place]
    model = model_of(cfg, params)
    ways = [
        lambda site=site: spliced(model, tokens, (site, site), layer, lambda _: said, mean, speaks) for site in written
    ]
    return [jax.lax.switch(which, ways) if len(ways) > 1 else ways[0]()]
