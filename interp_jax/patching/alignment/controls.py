"""How well subspaces do their work on held-out pairs, and what as many dimensions do that were not searched for.

    interchange accuracy = share of pairs whose likeliest token, after a hard interchange, is the counterfactual answer

beside which stand, always:

    random         a uniformly random subspace of equal dimension, same layer and place
    shuffled       a search on answers dealt out at random, scored on held-out answers dealt out at random: what fitting does
    random_model   a search in a model of the same configuration with random weights, scored in that model
    untouched      no interchange: pairs that are right without any
    whole          the site's whole vector, as in ordinary patching: a subspace that beats it does what no source does
    chance         the share of the commonest held-out answer: no guess that ignores the pair does better

High accuracy is not yet a mechanism. A random-weights model can be steered too, where what its embeddings say of the tokens
reaches the site; and a search leans on directions that the model writes but never reads, if there are any (Makelov et al. 2023,
"Is this the subspace you are looking for?", and the reply of Wu et al. 2024): no control shows that, only another look at what
reads the subspace.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.parts import stack
from interp_jax.patching.alignment import rotations
from interp_jax.patching.alignment.config import AlignmentConfig, check_members, stacked_members, used_layers
from interp_jax.patching.alignment.interchange import (
    Interchanges,
    Shared,
    Swap,
    share,
    site_width,
    swapped_logits,
)
from interp_jax.patching.alignment.search import Alignment, dealt, search, spread
from interp_jax.train.language import token_losses
from interp_jax.train.population import population
from interp_jax.train.run import ALIVE

EXAMPLES = 32  # pairs that are evaluated at once
Candidates = Integer[Array | np.ndarray, "... C"]


class Evaluation(NamedTuple):
    """What interchanges did, pair by pair.

    Attributes:
      predicted: [R N], the likeliest token, among the candidates where there are any.
      correct: [R N], whether that is the counterfactual answer.
      losses: [R N], -log p(counterfactual answer) in nats, over the whole vocabulary.
      differences: [R N], the counterfactual answer's logit less that of the base's own.
    """

    predicted: Int[Array, "R N"]
    correct: Bool[Array, "R N"]
    losses: Float[Array, "R N"]
    differences: Float[Array, "R N"]

    @property
    def accuracy(self) -> Float[np.ndarray, " R"]:
        """Interchange accuracy of each member."""
        return np.asarray(self.correct).mean(-1)


class Controlled(NamedTuple):
    """A search and all its controls; see the module. `random_alignment` is the one in the random-weights model."""

    alignment: Alignment
    random_alignment: Alignment
    learned: Evaluation
    random: Evaluation
    shuffled: Evaluation
    random_model: Evaluation
    untouched: Evaluation
    whole: Evaluation
    chance: float

    @property
    def selectivity(self) -> Float[np.ndarray, " R"]:
        """Learned accuracy less that of the best of the controls that should not work."""
        controls = (self.random, self.shuffled, self.random_model, self.untouched)
        return self.learned.accuracy - np.max([c.accuracy for c in controls], axis=0)


def evaluate(
    params: Params,
    cfg: TransformerConfig,
    alignment: Alignment,
    data: Interchanges,
    candidates: Candidates | None = None,
    batch: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Evaluation:
    """Interchange the subspaces with hard masks.

    Args:
      params: of the model.
      cfg: its config.
      alignment: subspaces of its site.
      data: pairs, best not those that were trained on.
      candidates: [C] or [N C], the tokens among which a prediction is made; None for all.
      batch: members that a device computes at once, as in `train_alignment`.
      devices: likewise.

    Raises:
      InputError: subspaces of another width than the site, impossible data, an answer that is no candidate.
    """
    site = alignment.members.site
    if alignment.basis.shape[1] != site_width(site, cfg):
        raise InputError(f"the basis has width {alignment.basis.shape[1]}, {site!r} {site_width(site, cfg)}")
    check_members(alignment.members, cfg, len(data.where))
    shared = share(params, cfg, data, site, used_layers(alignment.members))
    return score(cfg, shared, checked_candidates(candidates, data, cfg), alignment, "", batch, devices)


def known_alignment(basis: Float[Array | np.ndarray, "D k"], members: Sequence[AlignmentConfig]) -> Alignment:
    """A given subspace (a probe's, a dictionary's, a true one) at the layers and places of `members`, to be evaluated.

    Raises:
      InputError: columns that depend on each other.
    """
    columns, triangle = np.linalg.qr(np.asarray(basis, np.float64))
    diagonal = np.abs(np.diagonal(triangle))
    if basis.shape[1] > basis.shape[0] or diagonal.min() < 1e-6 * diagonal.max():
        raise InputError(f"a basis {list(basis.shape)} whose columns depend on each other spans no such subspace")
    n, dtype = len(members), jnp.asarray(basis).dtype
    tiled = jnp.tile(jnp.asarray(columns, dtype), (n, 1, 1))
    return Alignment(stack(members), tiled, jnp.ones_like(tiled[:, 0]), jnp.zeros((n, 0), dtype), jnp.full(n, ALIVE))


def with_controls(
    params: Params,
    cfg: TransformerConfig,
    train: Interchanges,
    held_out: Interchanges,
    members: Sequence[AlignmentConfig],
    candidates: Candidates | None = None,
    seed: int = 0,
    batch: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Controlled:
    """Search for every member's subspace, and evaluate it and its controls on held-out pairs.

    Searches share one compiled program, and so do evaluations; `seed` is of the random-weights model.

    Raises:
      InputError: as `train_alignment` and `evaluate`.
    """
    stacked = stacked_members(cfg, train, members)
    layers = used_layers(stacked)
    check_members(stacked, cfg, len(held_out.where))
    chosen = checked_candidates(candidates, held_out, cfg)
    drawn = transformer.init(randomness.key(seed, "random model"), cfg)
    drawn = jax.tree.map(lambda x: x.astype(jax.tree.leaves(params)[0].dtype), drawn)
    training = [share(model, cfg, train, stacked.site, layers) for model in (params, drawn)]
    testing = [share(model, cfg, held_out, stacked.site, layers) for model in (params, drawn)]
    learned = search(cfg, training[0], stacked, False, batch, devices)
    shuffled = search(cfg, training[0], stacked, True, batch, devices)
    elsewhere = search(cfg, training[1], stacked, False, batch, devices)
    found = functools.partial(score, cfg, testing[0], chosen, batch=batch, devices=devices)
    return Controlled(
        learned,
        elsewhere,
        learned=found(learned, ""),
        random=found(learned, "random"),
        shuffled=found(shuffled, "shuffled"),
        random_model=score(cfg, testing[1], chosen, elsewhere, "", batch, devices),
        untouched=found(learned, "untouched"),
        whole=found(learned, "whole"),
        chance=float(np.unique(held_out.counterfactual, return_counts=True)[1].max() / len(held_out.counterfactual)),
    )


class How(NamedTuple):
    """What is changed of an evaluation to make a control of it; each a bool [R]."""

    random: Any
    shuffled: Any
    untouched: Any
    whole: Any


def score(
    cfg: TransformerConfig, shared: Shared, candidates: Any, alignment: Alignment, how: str, batch: int, devices: Any
) -> Evaluation:
    """An evaluation, or the control `how`, of data that is on the device."""
    flags = How(*(np.full(len(alignment.basis), how == name) for name in How._fields))
    members = (alignment.members, alignment.basis, alignment.mask, flags)
    return spread(_scorer, cfg, members, (shared, candidates), batch, devices)


@functools.lru_cache(maxsize=16)
def _scorer(cfg: TransformerConfig, batch: int, devices: tuple[jax.Device, ...]) -> Any:
    return population(lambda member, shared: score_one(cfg, *member, *shared), batch, devices)


def score_one(
    cfg: TransformerConfig,
    config: AlignmentConfig,
    basis: Float[Array, "D K"],
    mask: Float[Array, " K"],
    how: How,
    shared: Shared,
    candidates: Any,
) -> Evaluation:
    """One member's evaluation."""
    data = shared.data
    drawn = rotations.random_basis(config.seed, *basis.shape, basis.dtype)
    swap = Swap(
        config.layer, config.place, jnp.where(how.random, drawn, basis), jnp.where(how.untouched, 0, mask), how.whole
    )
    labels = jnp.where(how.shuffled, dealt(data.counterfactual, config.seed, "held-out labels"), data.counterfactual)

    def one(row: Array) -> Evaluation:
        logits = swapped_logits(shared, row[None], swap, cfg, config.site)
        label = labels[row]
        known = logits[0] if candidates is None else logits[0, candidates[row]]
        predicted = jnp.argmax(known) if candidates is None else candidates[row][jnp.argmax(known)]
        error = token_losses(logits[:, None], label[None, None])[0, 0]
        return Evaluation(predicted, predicted == label, error, logits[0, label] - logits[0, data.answer[row]])

    return jax.lax.map(one, jnp.arange(len(labels)), batch_size=min(EXAMPLES, len(labels)))


def checked_candidates(candidates: Any, data: Interchanges, cfg: TransformerConfig) -> Int[Array, "N C"] | None:
    """Candidates of every pair.

    Raises:
      InputError: a token beyond the vocabulary, or an answer that is no candidate.
    """
    if candidates is None:
        return None
    n, tokens = len(data.base), np.asarray(candidates)
    if tokens.ndim not in (1, 2) or (tokens.ndim == 2 and len(tokens) != n):
        raise InputError(f"candidates are {list(tokens.shape)}: give [C], or [N C] for {n} pairs")
    tokens = np.broadcast_to(tokens, (n, tokens.shape[-1]))
    if len(bad := np.argwhere((tokens < 0) | (tokens >= cfg.d_vocab))):
        raise InputError(f"candidate {tokens[tuple(bad[0])]} of pair {bad[0][0]}: ids go from 0 to {cfg.d_vocab - 1}")
    if len(bad := np.flatnonzero((tokens != np.asarray(data.counterfactual)[:, None]).all(1))):
        raise InputError(f"the counterfactual answer {data.counterfactual[bad[0]]} of pair {bad[0]} is no candidate")
    return jnp.asarray(tokens, jnp.int32)
