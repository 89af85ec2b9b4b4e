"""A transformer that passes one variable on, in known planes of its stream: what searches for subspaces are tested on.

Tokens are (class, identity); the answer after four of them is the class at position 1. Heads look one position back, by
distance alone, so that nothing written to the stream can move them. The stream holds planes, one-dimensional for two classes
and two-dimensional for more (points on a circle), and all of it is turned by a random orthogonal matrix:

    own         the class of the position's token; read by layer 0
    relayed     written by layer 0: the class of the token before; read by layer 1
    answer      written by layer 1: the class of the token two before; read by W_U
    unread      written by layer 0: `bystander` times the class of the token before; read by nothing
    noise       the token's identity; read by nothing

All relays have one config, so that searches in them are one compiled program.
So the variable is in `relayed` at position 2 after layer 0, in `answer` at position 3 after layer 1, and nowhere else after
these layers.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.alignment.interchange import Interchanges

N_POSITIONS = 4
D_MODEL = 16
D_VOCAB = 28
PLANES = ("own", "relayed", "answer", "unread")
PLACES = (1, 2, 3)  # the positions that members choose among
TRUE_SITES = {(0, 1): "relayed", (1, 2): "answer"}  # (layer, place) of blocks.resid_post


class Relay(NamedTuple):
    """The model, its planes [D d] by name, and the answer tokens."""

    params: dict[str, Any]
    cfg: TransformerConfig
    planes: dict[str, np.ndarray]
    answers: np.ndarray


def relay(n_classes: int, bystander: float = 0.0, seed: int = 0, gain: float = 6.0) -> Relay:
    rng = np.random.default_rng(seed)
    first, per_class = tokens_of(n_classes)
    angles = 2 * np.pi * np.arange(n_classes) / n_classes
    points = np.cos(angles)[:, None] if n_classes == 2 else np.stack([np.cos(angles), np.sin(angles)], 1)
    d = points.shape[1]
    own, relayed, answer, unread = (slice(i * d, (i + 1) * d) for i in range(4))
    W_E, W_U = np.zeros((D_VOCAB, D_MODEL)), np.zeros((D_MODEL, D_VOCAB))
    W_E[:first, own] = np.repeat(points, per_class, axis=0)
    W_E[:first, 4 * d :] = rng.normal(size=(first, D_MODEL - 4 * d))
    W_U[answer, first:] = gain * points.T
    W_V, W_O = np.zeros((2, 1, D_MODEL, 2)), np.zeros((2, 1, 2, D_MODEL))
    W_V[0, 0, own, :d], W_V[1, 0, relayed, :d] = np.eye(d), np.eye(d)
    W_O[0, 0, :d, relayed], W_O[1, 0, :d, answer] = np.eye(d), np.eye(d)
    W_O[0, 0, :d, unread] = bystander * np.eye(d)
    look_back = np.zeros((2, 1, N_POSITIONS))
    look_back[:, :, 1] = 100.0
    turn = np.linalg.qr(rng.normal(size=(D_MODEL, D_MODEL)))[0]
    attn = {"W_Q": np.zeros_like(W_V), "W_K": np.zeros_like(W_V), "W_V": turn.T @ W_V, "W_O": W_O @ turn}
    params = {
        "embed": {"W_E": W_E @ turn},
        "blocks": {"ln1": {}, "attn": attn | {"b_distance": look_back}},
        "ln_final": {},
        "unembed": {"W_U": turn.T @ W_U},
    }
    cfg = TransformerConfig(
        d_model=D_MODEL, n_heads=1, d_head=2, d_vocab=D_VOCAB, n_context=N_POSITIONS, norm="none", positions="relative",
        biases="none", softmax_dtype="",
    )  # fmt: skip
    planes = {name: turn[i * d : (i + 1) * d].T for i, name in enumerate(PLANES)}
    return Relay(jax.tree.map(jnp.asarray, params), cfg, planes, np.arange(first, D_VOCAB))


def tokens_of(n_classes: int) -> tuple[int, int]:
    """The first answer, after all (class, identity) tokens, and how many identities a class has."""
    first = D_VOCAB - n_classes
    return first, first // n_classes


def pairs(n: int, n_classes: int, seed: int) -> Interchanges:
    """Random bases and sources, with places for positions 1, 2 and 3."""
    rng = np.random.default_rng(seed)
    first, per_class = tokens_of(n_classes)
    base, source = rng.integers(0, first, (2, n, N_POSITIONS))
    answer, counterfactual = (first + tokens[:, 1] // per_class for tokens in (base, source))
    where = np.arange(N_POSITIONS) == np.array(PLACES)[:, None, None]
    return Interchanges(base, source, counterfactual, answer, np.full(n, N_POSITIONS - 1), where)
