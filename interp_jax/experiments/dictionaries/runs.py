"""Train dictionaries on places in a model, or in two, and measure on held-out text what they reconstruct and what models lose.

Observed of every member:

    sums.* [N …]                              N blocks of held-out activations that count as in training, as they are; see
                                              `measures/fidelity.py`
    loss.WAY, kl.WAY [I, P]                   by piece and position, mean over held-out windows; see `measures/spliced.py`
    lengths [F, I]                            of crosscoders: of each feature's row in each piece, in normalised units
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from interp_jax.activations.harvest import counting
from interp_jax.activations.normaliser import normalised, restored
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.measures.fidelity import sums
from interp_jax.dictionaries.measures.spliced import spliced
from interp_jax.dictionaries.parameters import lengths_by_piece
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.experiments.dictionaries import stored
from interp_jax.experiments.dictionaries.config import Config
from interp_jax.experiments.dictionaries.stream import batch_of, from_store, refuse, stream
from interp_jax.experiments.dictionaries.subject import Configs, Shared, in_order, model_of, places, subject
from interp_jax.experiments.dictionaries.told import complaint
from interp_jax.experiments.experiment import Experiment
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import RunState


def experiment(config: Config) -> Experiment:
    """The runs of a group, which share one stream of activations.

    Raises:
      InputError: no finished run on text, a place that a model lacks, or a dictionary of another width.
    """
    cfgs, shared = subject(config)
    config.check_windows(cfgs[0].n_context)
    observe_at = tuple(sorted({max(1, config.steps // part) for part in (10, 3, 1)}))
    made = Experiment(
        dictionary_run(partial(batch_of, cfgs), described),
        partial(observe, cfgs),
        observe_at,
        shared,
        partial(stream, config, cfgs),
        config.stream_steps,
        refuse=partial(refuse, config),
        complain=partial(complaint, config.dictionary),
    )
    if not config.store:
        return made
    return made._replace(stream=from_store, load=stored.loader(config, places(config, cfgs[0])))


def described(hypers: Config) -> tuple[Dictionary, Optimizer, int]:
    """The dictionary, its optimizer and its steps."""
    return hypers.dictionary, hypers.optimizer, hypers.steps


def observe(cfgs: Configs, state: RunState, hypers: Config, shared: Shared) -> dict[str, Array]:
    """Fidelity, and the models' losses, on held-out windows."""
    own, normal = hypers.dictionary, shared.normal
    pieces = [
        (model_of(cfg, params), layer % cfg.n_layers)
        for cfg, params in zip(cfgs, shared.models, strict=True)
        for layer in hypers.depths
    ]
    write = hypers.sites[1]

    def block(tokens: Int[Array, "W N"]) -> Any:
        found = in_order(hypers, cfgs, shared, tokens[:, :-1])
        x, y = (found[name].reshape(-1, found[name].shape[-1]) for name in ("read", "write"))
        counts = counting(hypers.harvest, tokens[:, :-1], x[:, : x.shape[1] // len(pieces)])
        speaks = counts.reshape(tokens[:, :-1].shape)
        said, f = dictionary.reconstruct(state.params, normalised(x, normal["read"]), own)
        said = restored(said, normal["write"])
        parts = zip(pieces, jnp.split(said, len(pieces), 1), jnp.split(shared.mean, len(pieces)), strict=True)
        each = [
            spliced(model, tokens, (write, write), layer, lambda _, part=part: part, mean, speaks)
            for (model, layer), part, mean in parts
        ]
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
