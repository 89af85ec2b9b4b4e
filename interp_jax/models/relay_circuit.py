"""A variable handed from layer to layer in known subspaces of the stream, built by hand: what searches for subspaces must find.

    tokens: (class, identity) at each of L + 2 positions, L layers        answer: the class at position 1

Every layer has one head, which looks one position back, by distance alone: nothing written to the stream can move it. The
stream holds planes of d dimensions, side by side, all turned by one random rotation. A class is a vertex of the regular simplex
of d + 1 points on the unit sphere of a plane: all d dimensions are alike.

    plane 0        written by W_E: the class of the position's own token
    plane l + 1    written by layer l, which reads plane l: the class of the token l + 1 before
    bystander      written by layer 0: `bystander` times the class of the token before; read by nothing
    the rest       written by W_E: Gaussian, a draw for each token; read by nothing

W_U reads plane L. So after layer l (`blocks.resid_post`) the variable that decides the answer is held in plane l + 1 at
position l + 2, and nowhere else:

    behind, position < l + 2    reaches no logit any more that is measured, though classes still stand there, position 1's too
    held, position = l + 2      plane l + 1: to exchange it, and it alone, gives the answer to the source's class
    ahead, position > l + 2     is still read, but has not heard of position 1: the source's class cannot come from there

Where tokens of base and source are independent, an interchange at any other place is right by chance alone: in 1 / (d + 1) of
pairs, exactly. Interchange accuracy says the same of every subspace that includes the plane, and of one that mixes it with the
bystander (Makelov et al. 2023, "Is this the subspace you are looking for?"): a unit direction cos θ · u + sin θ · w, of a u in
the plane and its copy w, moves the plane by cos θ (cos θ + b sin θ) times the whole difference, which is more than the whole
for tan θ < b and most, (1 + √(1 + b²)) / 2, at θ = arctan(b) / 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.models.circuit_truth import Prompts
from interp_jax.models.transformer import Params, TransformerConfig

HELD, AHEAD, BEHIND = "held", "ahead", "behind"  # what a place is to the variable, from the variable's point of view


class RelayTruth(NamedTuple):
    """What is known of a relay.

    Attributes:
      planes: [L+1 D d], orthonormal columns of each.
      bystander: [D d].
      answers: [d+1], the answer tokens.
    """

    planes: Float[np.ndarray, "N D d"]
    bystander: Float[np.ndarray, "D d"]
    answers: Int[np.ndarray, " C"]

    def plane(self, layer: int) -> Float[np.ndarray, "D d"]:
        """The subspace that holds the variable after a layer, at position layer + 2."""
        return self.planes[layer + 1]


def kind_of_place(layer: int, position: int) -> str:
    """What a position is to the variable after a layer: `HELD`, `AHEAD` or `BEHIND`."""
    return HELD if position == layer + 2 else AHEAD if position > layer + 2 else BEHIND


def mixed_share(bystander: float) -> float:
    """cos² θ at θ = arctan(b) / 2: how much of the plane is in the subspace that moves it most."""
    return (1 + (1 + bystander**2) ** -0.5) / 2


def relay_circuit(
    dimensions: int,
    n_layers: int = 2,
    d_model: int = 16,
    d_vocab: int = 24,
    bystander: float = 0.0,
    margin: float = 8.0,
    seed: int = 0,
) -> tuple[Params, TransformerConfig, RelayTruth]:
    """The parameters, the config and the truth; relays of equal depth, width and vocabulary have one config.

    Args:
      dimensions: d of the variable.
      n_layers: L.
      d_model: D, at least (L + 2) d.
      d_vocab: V, a multiple of d + 1: as many tokens of each class, one of them its answer.
      bystander: b, how large the copy is that nothing reads.
      margin: how far the right answer's logit is above those of other answers; other tokens' are 0, d / (d + 1) of it below.
      seed: of the rotation and of what tokens write besides.

    Raises:
      InputError: nothing to hold, a stream too narrow for the planes, a vocabulary that does not divide.
    """
    d, D, C, n_planes = dimensions, d_model, dimensions + 1, n_layers + 2
    if d < 1 or n_layers < 1:
        raise InputError(f"dimensions = {d}, n_layers = {n_layers}: a relay has at least one of each")
    if D < n_planes * d:
        raise InputError(f"d_model = {D}: {n_planes} planes of {d} dimensions need {n_planes * d}")
    first, points = first_answer(d, d_vocab), simplex(d)
    turn = np.linalg.qr(_normal(seed, "basis", (D, D)))[0]
    *planes, copy = np.split(turn[: n_planes * d].T, n_planes, axis=1)
    W_E = np.repeat(points, first // C, axis=0) @ planes[0].T
    W_E += _normal(seed, "identities", (first, D - n_planes * d)) @ turn[n_planes * d :]
    params = {
        "embed": {"W_E": np.pad(W_E, ((0, C), (0, 0)))},
        "blocks": {"ln1": {}, "attn": _heads(planes, bystander * copy, D // n_planes)},
        "ln_final": {},
        "unembed": {"W_U": np.pad(margin * d / C * planes[-1] @ points.T, ((0, 0), (first, 0)))},
    }
    cfg = TransformerConfig(
        n_layers=n_layers, n_heads=1, d_head=D // n_planes, d_model=D, d_vocab=d_vocab, n_context=n_planes, norm="none",
        positions="relative", biases="none", softmax_dtype="",
    )  # fmt: skip
    return jax.tree.map(jnp.asarray, params), cfg, RelayTruth(np.stack(planes), copy, np.arange(first, d_vocab))


def _heads(
    planes: Sequence[Float[np.ndarray, "D d"]], besides: Float[np.ndarray, "D d"], d_head: int
) -> dict[str, Float[np.ndarray, "..."]]:
    """One of each layer, as wide as the widest variable's, so that all relays of a shape have one config."""
    (D, d), L = planes[0].shape, len(planes) - 1
    W_V, W_O = np.zeros((L, 1, D, d_head)), np.zeros((L, 1, d_head, D))
    for layer in range(L):
        W_V[layer, 0, :, :d], W_O[layer, 0, :d] = planes[layer], planes[layer + 1].T
    W_O[0, 0, :d] += besides.T
    back, still = np.zeros((L, 1, L + 2)), np.zeros_like(W_V)
    back[:, :, 1] = 100.0
    return {"W_Q": still, "W_K": still, "W_V": W_V, "W_O": W_O, "b_distance": back}


def relay_prompts(dimensions: int, n: int, n_layers: int = 2, d_vocab: int = 24, seed: int = 0) -> Prompts:
    """Independent random sources ("clean") and bases ("corrupted"), the answers of the one and, as others, of the other."""
    first, C = first_answer(dimensions, d_vocab), dimensions + 1
    shape = (2, n, n_layers + 2)
    tokens = np.asarray(jax.random.randint(randomness.key(seed, "relay.tokens"), shape, 0, first, np.int32))
    answers = (first + tokens[:, :, 1:2] // (first // C)).astype(np.int32)
    return Prompts(*tokens, *answers)


def first_answer(dimensions: int, d_vocab: int) -> int:
    """The first of the d + 1 answer tokens, which follow those of the classes in order.

    Raises:
      InputError: a vocabulary that is no multiple of d + 1, or has only answers.
    """
    C = dimensions + 1
    if d_vocab % C or d_vocab < 2 * C:
        raise InputError(
            f"d_vocab = {d_vocab}: {C} classes of one answer and as many tokens each need a multiple of {C}"
        )
    return d_vocab - C


def simplex(d: int) -> Float[np.ndarray, "C d"]:
    """The d + 1 vertices of the regular simplex around 0, of length 1: x_i · x_j = -1/d (Helmert's matrix, scaled)."""
    i, k = np.arange(d + 1)[:, None], np.arange(1, d + 1)
    helmert = np.where(i < k, 1.0, np.where(i == k, -k, 0.0)) / np.sqrt(k * (k + 1))
    return helmert * np.sqrt((d + 1) / d)


def _normal(seed: int, stream: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    return np.asarray(jax.random.normal(randomness.key(seed, f"relay.{stream}"), shape, np.float32), np.float64)
