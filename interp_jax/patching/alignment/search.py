"""Distributed alignment search: which subspace of an activation holds a variable (Geiger et al. 2023).

R is found by gradient steps on -log p(counterfactual answer) after the interchange of `interchange.py`, averaged
over pairs of inputs. Variants differ in which columns of R are interchanged:

    orthonormal     the first k: m_j = [j < k], k traced
    boundless       as many as pay: m_j = sigmoid((b - j - 1/2) / τ), b learned, τ annealed, and the loss pays price · b / K;
                    at the end m_j = [j + 1/2 < b]                                    (Wu et al. 2023)
    low_rank        all of few: K = `width`, static                                   (as in pyvene: Wu et al. 2024)

What Adam moves is scaled so that its learning rate is dimension-free: about how far a column turns in a step, in radians, and
how far the logit of b / K goes.

Members of a population differ by layer, place, seed, k and the numbers of the optimizer, and are one compiled program.
Accuracy after training says little by itself: a subspace can be made to work that the model does not use (Makelov et al.
2023), so read it beside the controls of `controls.py`.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from interp_jax import randomness
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.alignment import rotations
from interp_jax.patching.alignment.config import AlignmentConfig, stacked_members, used_layers
from interp_jax.patching.alignment.interchange import Interchanges, Shared, Swap, share, swapped_logits
from interp_jax.train.language import token_losses
from interp_jax.train.optimizer import gradient_transformation
from interp_jax.train.population import pad_members, place, population
from interp_jax.train.run import RunState, Span, training_run

SPANS = 10  # points of the loss curve


class Alignment(NamedTuple):
    """Subspaces that were found, one per member; the first axis is R.

    Attributes:
      members: their configs, hypers with an R axis.
      basis: orthonormal columns [R D K].
      mask: [R K], 1 for columns of the subspace, else 0; ones come first.
      losses: [R S], mean cross-entropy in nats in each of S equal parts of training.
      diverged_at: [R], the step at which a member became non-finite and stopped, or -1.
    """

    members: AlignmentConfig
    basis: Float[Array, "R D K"]
    mask: Float[Array, "R K"]
    losses: Float[Array, "R S"]
    diverged_at: Int[Array, " R"]

    @property
    def dimensions(self) -> Int[np.ndarray, " R"]:
        """How many dimensions each subspace has."""
        return np.asarray(self.mask).sum(-1).astype(np.int32)

    def subspace(self, member: int) -> Float[np.ndarray, "D k"]:
        """The orthonormal columns of one member's subspace."""
        return np.asarray(self.basis[member])[:, : self.dimensions[member]]


def train_alignment(
    params: Params,
    cfg: TransformerConfig,
    data: Interchanges,
    members: Sequence[AlignmentConfig],
    shuffled: bool = False,
    batch: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Alignment:
    """Search for every member's subspace.

    Args:
      params: of the model.
      cfg: its config.
      data: pairs to train on.
      members: they may differ in hypers only.
      shuffled: the control: counterfactual answers are dealt out anew among the pairs, by each member's seed.
      batch: members that a device computes at once; 0 for all on an accelerator, one by one on a CPU.
      devices: default, all of this process.

    Raises:
      InputError: impossible data or members.
    """
    stacked = stacked_members(cfg, data, members)
    shared = share(params, cfg, data, stacked.site, used_layers(stacked))
    return search(cfg, shared, stacked, shuffled, batch, devices)


def search(
    cfg: TransformerConfig, shared: Shared, members: AlignmentConfig, shuffled: bool, batch: int, devices: Any
) -> Alignment:
    """`train_alignment` of members that are stacked and data that is on the device."""
    found = spread(_searcher, cfg, (members, np.full(len(members.seed), shuffled)), shared, batch, devices)
    return Alignment(members, *found)


def spread(make: Any, cfg: TransformerConfig, members: Any, shared: Any, batch: int, devices: Any) -> Any:
    """Results of the population that `make(cfg, batch, devices)` lifts, one compiled program for all calls alike."""
    n = len(jax.tree.leaves(members)[0])
    devices = tuple(jax.local_devices() if devices is None else devices)[:n]
    per_device = -(-n // len(devices))
    batch = min(batch or (1 if devices[0].platform == "cpu" else per_device), per_device)
    placed = place(pad_members(members, len(devices)), devices)
    return jax.tree.map(lambda x: x[:n], make(cfg, batch, devices)(placed, shared))


@functools.lru_cache(maxsize=16)
def _searcher(cfg: TransformerConfig, batch: int, devices: tuple[jax.Device, ...]) -> Any:
    def found(member: tuple[AlignmentConfig, Array], shared: Shared) -> Any:
        return search_one(cfg, *member, shared)

    return population(found, batch, devices)


def search_one(cfg: TransformerConfig, config: AlignmentConfig, shuffled: Array, shared: Shared) -> Any:
    """One member's basis, mask, losses and step of divergence."""
    D, K, n = shared.sources.shape[-1], config.width, len(shared.data.base)
    dtype = shared.sources.dtype
    start = rotations.random_columns(randomness.key(config.seed, "start"), D, D, dtype)
    labels = jnp.where(shuffled, dealt(shared.data.counterfactual, config.seed, "labels"), shared.data.counterfactual)

    def init_params(seed: Array, config: AlignmentConfig) -> Params:
        boundary = {"boundary": jnp.zeros((), dtype)} if config.variant == "boundless" else {}
        return {"U": jnp.zeros((D, K), dtype)} | boundary

    def loss(free: Params, config: AlignmentConfig, seed: Array, step: Array, shared: Shared) -> Any:
        rows = jnp.arange(n)
        if config.examples:
            rows = jax.random.randint(randomness.key(seed, "pairs", step), (config.examples,), 0, n)
        weights, width = soft_weights(free, config, step, dtype)
        swap = Swap(
            config.layer, config.place, rotations.columns(free["U"] * D**-0.5, start), weights, jnp.bool_(False)
        )
        logits = swapped_logits(shared, rows, swap, cfg, config.site)
        error = token_losses(logits[:, None], labels[rows][:, None]).mean()
        return error + config.price * width / K, {"error": error}

    run = training_run(init_params, loss, lambda config: gradient_transformation(config.optimizer, config.steps))
    edges = np.linspace(0, config.steps, min(SPANS, config.steps) + 1).round().astype(np.int32)

    def advance(state: RunState, span: Span) -> tuple[RunState, Array]:
        state, metrics = run.advance(state, config, span, shared)
        return state, metrics["error"]

    state, losses = jax.lax.scan(advance, run.init(config.seed, config), Span(edges[:-1], edges[1:]))
    return (
        rotations.columns(state.params["U"] * D**-0.5, start),
        hard_mask(state.params, config, dtype),
        losses,
        state.diverged_at,
    )


def dealt(labels: Integer[Array, " N"], seed: randomness.Scalar, stream: str) -> Integer[Array, " N"]:
    """The labels in an order that has nothing to do with the pairs."""
    return jax.random.permutation(randomness.key(seed, stream), labels)


def soft_weights(free: Params, config: AlignmentConfig, step: Array, dtype: Any) -> tuple[Array, Array]:
    """The weight of each column [K] at a step, and how many columns are paid for."""
    if config.variant != "boundless":
        return hard_mask(free, config, dtype), jnp.zeros((), dtype)
    fall = jnp.log(config.last_temperature / config.first_temperature) * step / config.steps
    temperature = (config.first_temperature * jnp.exp(fall)).astype(dtype)
    width = boundary_of(free, config)
    return jax.nn.sigmoid((width - jnp.arange(config.width) - 0.5) / temperature), width


def hard_mask(free: Params, config: AlignmentConfig, dtype: Any) -> Float[Array, " K"]:
    """1 for the columns of the subspace, else 0."""
    column = jnp.arange(config.width)
    if config.variant == "boundless":
        return (column + 0.5 < boundary_of(free, config)).astype(dtype)
    return (column < (config.k if config.variant == "orthonormal" else config.width)).astype(dtype)


def boundary_of(free: Params, config: AlignmentConfig) -> Float[Array, ""]:
    """b: from half of the columns, anywhere between none and all."""
    return config.width * jax.nn.sigmoid(free["boundary"])
