"""Look inside one model on one prompt. Nothing is trained: what a run computes is its observation.

With P the prompt's last position, shown are at most `show.positions` p and `show.layers` l; axes of one run:

    tokens, first [P], []             the prompt's ids, and the first position that is shown
    lens_ids, lens_probability [l p 5]            the five likeliest tokens of each layer's stream
    pair [2], difference              answer and against; the difference of their logits at P
    component [C], constant           what the parts of the model add to it (to that of logits before a cap)
    head [L H], head_rest             what heads add; the biases of attention
    neuron [K], neuron_index [K], neuron_rest     the neurons that add most, as l M + m, and all other parts of MLPs
    pattern [N p p], shown [N]        attention of some heads, as l H + h
    previous, duplicate, induction [L H]          kinds of head, on repeated random tokens: the only numbers with a seed
    q, k, v [L H L H]                 composition scores, norms folded where they can be
    copying, matching, ov_values, …   of circuits over tokens: see `circuits.py`
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.anatomy import composition, decomposition, logit_attribution
from interp_jax.anatomy.heads import HeadScores
from interp_jax.anatomy.logit_lens import logit_lens
from interp_jax.errors import InputError
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.inside.circuits import read_circuits
from interp_jax.experiments.inside.config import Config
from interp_jax.experiments.inside.prompt import check_is_readable, prompt_of
from interp_jax.experiments.subjects.kinds import repeat_period, score_heads
from interp_jax.experiments.subjects.model import Subject, load_params, subject_of
from interp_jax.experiments.subjects.tokens import token_of
from interp_jax.models import processing, transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.train.run import RunState

TOP = 5  # tokens that the lens gives for each cell


class Shared(NamedTuple):
    """The model and what is asked of it; answer and against are -1 where the model's own choice is meant."""

    params: Params
    tokens: Int[Array, " P"]
    pair: Int[Array, " 2"]


def experiment(config: Config) -> Experiment:
    """The runs of a config; they differ by their seed.

    Raises:
      InputError: a model, prompt or token that cannot be.
    """
    subject = subject_of(config.model)
    check_is_readable(subject.cfg, subject.name)
    tokens = np.asarray(prompt_of(config, subject), np.int32)
    pair = [token_of(getattr(config, name), name, subject) for name in ("answer", "against")]
    if pair[0] == pair[1] != -1:
        raise InputError(f"answer and against are the same token, {pair[0]}: their logits do not differ")
    repeat_period(config.repeats, subject)
    shared = Shared(load_params(config.model), tokens, np.asarray(pair, np.int32))

    def observe_subject(state: RunState, hypers: Config, shared: Shared) -> dict[str, Array]:
        return observe(state.seed, hypers, shared, subject)

    return Experiment(untrained(), observe_subject, (config.steps,), shared)


def observe(seed: Array, config: Config, shared: Shared, subject: Subject) -> dict[str, Array]:
    """All that the report shows."""
    params, cfg, tokens = shared.params, subject.cfg, shared.tokens[None]
    sites = {*logit_attribution.attribution_sites(cfg), "blocks.attn.pattern", "blocks.resid_post"}
    logits, acts = record(params, tokens, cfg, sorted(sites))
    first = max(0, tokens.shape[1] - config.show.positions)
    streams = acts["blocks.resid_post"][jnp.asarray(lens_layers(config, cfg)), 0, first:]
    found = {"tokens": shared.tokens, "first": jnp.int32(first), "pair": choose(logits[0, -1], shared.pair)}
    found |= read_layers(params, streams, cfg)
    answer, against = found["pair"]
    found["difference"] = logits[0, -1, answer] - logits[0, -1, against]
    found |= attribute(params, acts, cfg, found["pair"], config.show.bars)
    kinds = score_heads(seed, params, config.repeats, subject)
    shown = choose_heads(found["head"], kinds, config.show.heads)
    patterns = acts["blocks.attn.pattern"][:, 0].reshape(-1, *acts["blocks.attn.pattern"].shape[3:])
    found |= {"shown": shown, "pattern": patterns[shown, first:, first:], **kinds._asdict()}
    weights = folded(params, cfg)
    found |= composition.composition_scores(*weights)._asdict()
    return found | read_circuits(*weights, choose_heads(found["head"], kinds, config.show.circuits))


def record(params: Params, tokens: Int[Array, "B P"], cfg: TransformerConfig, sites: list[str]) -> tuple[Any, Any]:
    """Logits and activations."""
    return taps.record(lambda params, tokens: transformer.apply(params, tokens, cfg), sites)(params, tokens)


def lens_layers(config: Config, cfg: TransformerConfig) -> np.ndarray:
    """The layers that the lens shows: at most `show.layers`, spread evenly, the last among them."""
    last, count = cfg.n_layers - 1, min(config.show.layers, cfg.n_layers)
    return np.unique(np.linspace(last, 0, count).round().astype(int))


def read_layers(params: Params, streams: Float[Array, "L P D"], cfg: TransformerConfig) -> dict[str, Array]:
    """The likeliest tokens by layer and position; one layer at a time, as logits of all are large."""
    found = []
    for stream in streams:
        probability = jax.nn.softmax(logit_lens(params, stream[None, None], cfg)[0, 0])
        found.append(jax.lax.top_k(probability, min(TOP, cfg.d_vocab)))
    probability, ids = (jnp.stack(each) for each in zip(*found, strict=True))
    return {"lens_ids": ids, "lens_probability": probability}


def choose(logits: Float[Array, " V"], pair: Int[Array, " 2"]) -> Int[Array, " 2"]:
    """Answer and against: as asked for, else the likeliest tokens that are not the other one."""
    allowed = jnp.arange(len(logits)) != pair[1]
    answer = jnp.where(pair[0] >= 0, pair[0], jnp.where(allowed, logits, -jnp.inf).argmax())
    others = jnp.where(jnp.arange(len(logits)) != answer, logits, -jnp.inf)
    return jnp.stack([answer, jnp.where(pair[1] >= 0, pair[1], others.argmax())]).astype(jnp.int32)


def attribute(params: Params, acts: Any, cfg: TransformerConfig, pair: Int[Array, " 2"], n: int) -> dict[str, Array]:
    """What components, heads and neurons add to the logit difference at the last position."""
    acts = {site: value[:, :, -1:] if site.startswith("blocks.") else value[:, -1:] for site, value in acts.items()}
    readout = logit_attribution.logit_readout(params, acts, cfg, pair[:1, None], pair[1:, None])
    component = logit_attribution.attribute(decomposition.components(params, acts, cfg), readout)[:, 0, 0]
    by_head = logit_attribution.attribute_heads(params, acts, cfg, readout)
    found = {"component": component, "constant": readout.constant[0, 0]}
    found |= {"head": by_head.heads[:, 0, 0], "head_rest": by_head.rest.sum()}
    if not cfg.d_mlp:
        return found
    by_neuron = logit_attribution.attribute_neurons(params, acts, cfg, readout)
    said = by_neuron.neurons.ravel()
    index = jax.lax.top_k(jnp.abs(said), min(n, len(said)))[1]
    rest = said.sum() - said[index].sum()
    return found | {"neuron": said[index], "neuron_index": index, "neuron_rest": rest + by_neuron.rest.sum()}


def choose_heads(head: Float[Array, "L H"], kinds: HeadScores, most: int) -> Int[Array, " N"]:
    """The heads to show: the strongest of each kind, then those that add most to the logit difference, in order of layers."""
    size = jnp.abs(head).ravel()
    for score in kinds:
        size = size.at[score.argmax()].set(jnp.inf)
    return jnp.sort(jax.lax.top_k(size, min(most, size.size))[1])


def can_fold(cfg: TransformerConfig) -> bool:
    """Whether norms fold into the matrices after them; with "shortformer" positions they do not."""
    return cfg.norm == "none" or cfg.positions != "shortformer"


def folded(params: Params, cfg: TransformerConfig) -> tuple[Params, TransformerConfig]:
    """The model with its norms folded, where they can be."""
    return processing.fold_norms(params, cfg) if can_fold(cfg) else (params, cfg)
