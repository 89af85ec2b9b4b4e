"""Representation fine-tuning: an edit of one site of a frozen model, learned from text that is wanted; many as one population.

    LoReFT     h + (h Wᵀ + b - h Rᵀ) R                              R [K D] of orthonormal rows (Wu et al. 2024)
    ReFT-r1    h + (1/k) Σ_top-k relu(h·w) · w,  ‖w‖ = 1            the k largest over an example's positions (Wu et al. 2025)

    loss = Σ weight · -log p(token) / Σ weight  +  penalty · mean over examples of Σ_rest relu(h·w)             of ReFT-r1

Tokens that are wanted have weights, and are predicted from the model as edited. ReFT-r1's w is a detector and a direction at
once: what is not among the k largest is penalised, so that it stays silent where it is not needed. Once trained it steers as a
direction does (`direction`), for its sum over positions is not known while text is being written.

A member of a population has a layer, a learning rate, a seed, and which of several texts it learns from: all of them traced.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from interp_jax import randomness, taps
from interp_jax.errors import InputError, nearest
from interp_jax.probes.principal import orthonormal
from interp_jax.steering.directions import unit
from interp_jax.steering.interventions import low_rank
from interp_jax.taps import Edit
from interp_jax.train.language import token_losses
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.population import population
from interp_jax.train.run import Run, Span, training_run

Model = Callable[[Any, Int[Array, "B P"]], Float[Array, "B P V"]]
Params = dict[str, Array]


class Example(NamedTuple):
    """Text to learn from: tokens, and how much each token is wanted where it is predicted; the first one never is."""

    tokens: Int[Array, "B N"]
    weights: Float[Array, "B N"]


class Hypers(NamedTuple):
    """Of a member; leaves are traced.

    Attributes:
      seed: of its start and its batches.
      layer: where it edits.
      optimizer: see `train/optimizer.py`.
      k: of ReFT-r1: positions of an example that count.
      penalty: of ReFT-r1: on the others.
      text: which of several texts it learns from, as `draw` understands it.
    """

    seed: Int[Array, "*R"] | int = 0
    layer: Int[Array, "*R"] | int = 0
    optimizer: Optimizer = Optimizer(learning_rate=1e-2)
    k: Int[Array, "*R"] | int = 8
    penalty: Float[Array, "*R"] | float = 5e-3
    text: Int[Array, "*R"] | int = 0


class Form(NamedTuple):
    """What is learned.

    Attributes:
      init: (key, width, rank) -> params.
      edit: (params, hypers) -> the edit, at the member's layer.
      rest: (params, hypers, h [B P D]) -> what is penalised, a mean over examples.
    """

    init: Callable[..., Params]
    edit: Callable[[Params, Any], Edit]
    rest: Callable[[Params, Any, Array], Array] | None = None


def loreft_init(key: Array, width: int, rank: int) -> Params:
    """R at random; W as R and b = 0, so that nothing is changed at first."""
    R = orthonormal(jax.random.normal(key, (rank, width)))
    return {"R": R, "W": R, "b": jnp.zeros(rank)}


def loreft_edit(params: Params, hypers: Any, dose: Any = 1.0) -> Edit:
    """The edit, `dose` times it."""
    R = orthonormal(params["R"])
    return low_rank((params["W"] - R).T, params["b"], R, dose, hypers.layer)


def reft_r1_init(key: Array, width: int, rank: int) -> Params:
    """A random direction."""
    return {"w": unit(jax.random.normal(key, (width,)))}


def reft_r1_edit(params: Params, hypers: Any) -> Edit:
    """The edit as it is trained."""
    return Edit("apply", Partial(_add_top, params["w"], jnp.asarray(hypers.k)), layer=hypers.layer)


def _add_top(w: Array, k: Array, h: Array) -> Array:
    direction = unit(w)
    most, _ = parted(jnp.einsum("bpd,d->bp", h, direction, precision="highest"), k)
    return h + most[:, None, None] * direction


def parted(scores: Float[Array, "B P"], k: Int[Array, ""] | int) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """The mean of the k largest positive scores of each example, 0 counting for those that lack; the sum of the others."""
    positive, place = jax.nn.relu(scores), jnp.arange(scores.shape[1])
    before = (positive[:, None] > positive[:, :, None]) | (
        (positive[:, None] == positive[:, :, None]) & (place[None, :] < place[:, None])
    )
    first = before.sum(2) < k  # by rank: cheaper to compile and to differentiate than a sort
    return (positive * first).sum(1) / k, (positive * ~first).sum(1)


def reft_r1_rest(params: Params, hypers: Any, h: Float[Array, "B P D"]) -> Float[Array, ""]:
    """What ReFT-r1 penalises."""
    scores = jnp.einsum("bpd,d->bp", h, unit(params["w"]), precision="highest")
    return hypers.penalty * parted(scores, hypers.k)[1].mean()


def direction(params: Params) -> Float[Array, "*R D"]:
    """ReFT-r1's direction, of length 1; leading axes are those of members."""
    return unit(params["w"])


FORMS = {"reft_r1": Form(reft_r1_init, reft_r1_edit, reft_r1_rest), "loreft": Form(loreft_init, loreft_edit)}


def tuning_run(
    form: str,
    model: Model,
    site: str,
    width: int,
    draw: Callable[[Any, Any, Array, Array], Example],
    steps: int,
    rank: int = 1,
) -> Run:
    """The run that learns an edit of `site`; what it shares is a pair (model's parameters, what `draw` draws from).

    Args:
      form: "reft_r1" or "loreft".
      model: (parameters, tokens) -> logits, with taps; frozen.
      site: of the stream, in every layer.
      width: of the site.
      draw: (hypers, data, seed, step) -> Example.
      steps: of the schedule.
      rank: of LoReFT.

    Raises:
      InputError: an unknown form, or a rank beyond the width.
    """
    if form not in FORMS:
        raise InputError(f"form = {form!r}: {nearest(form, FORMS)}")
    if not 1 <= rank <= width:
        raise InputError(f"rank = {rank}: must be from 1 to the width of {site!r}, {width}")
    of = FORMS[form]

    def loss(params: Params, hypers: Any, seed: Array, step: Array, shared: Any) -> tuple[Array, dict[str, Array]]:
        frozen, data = shared
        example = draw(hypers, data, seed, step)
        before = taps.record(partial(model, frozen), [site]) if of.rest else partial(model, frozen)
        said = taps.edit(before)({site: of.edit(params, hypers)}, example.tokens[:, :-1])
        logits, seen = said if of.rest else (said, {})
        weights = example.weights[:, 1:]
        losses = token_losses(logits, example.tokens[:, 1:])
        wanted = (weights * losses).sum() / jnp.maximum(weights.sum(), 1.0)
        h = jax.lax.dynamic_index_in_dim(seen[site], hypers.layer, keepdims=False) if of.rest else None
        return wanted + (of.rest(params, hypers, h) if of.rest else 0.0), {"wanted": wanted}

    return training_run(
        lambda seed, hypers: of.init(randomness.key(seed, f"steering.{form}"), width, rank),
        loss,
        lambda hypers: gradient_transformation(hypers.optimizer, steps),
    )


class Tuned(NamedTuple):
    """Of R members: parameters, the mean of -log p of wanted tokens over the last quarter of the steps, when one diverged."""

    params: Params
    loss: Float[Array, " R"]
    diverged_at: Int[Array, " R"]


def tuned(run: Run, members: Any, shared: Any, steps: int, batch: int = 1, devices: Any = None) -> Tuned:
    """Trains a population of edits, hypers with leading axis R, as one program, on the first device by default."""

    def whole(hypers: Any, shared: Any) -> Tuned:
        turn = steps - max(steps // 4, 1)
        spans = Span(jnp.array([0, turn]), jnp.array([turn, steps]))
        advance = lambda state, span: run.advance(state, hypers, span, shared)
        state, metrics = jax.lax.scan(advance, run.init(hypers.seed, hypers), spans)
        return Tuned(state.params, metrics["wanted"][1], state.diverged_at)

    return population(whole, batch, jax.devices()[:1] if devices is None else devices)(members, shared)
