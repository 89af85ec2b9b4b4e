"""A switch under a saturated softmax, built by hand: patching shows what first-order attribution cannot.

    x  y  LEFT → x        x  y  RIGHT → y        x* y  MARK → x        x  y* MARK → y

One layer. Head 0 looks from the cue at the first name, at the second, or at the marked one, with score s = `sharpness`, and
copies it; head 1, a decoy, looks everywhere alike and copies into what nothing reads. Two kinds of prompts:

    query    the cue is LEFT (clean) or RIGHT (corrupted): all of the difference passes through the cue's query
    keys     the cue is MARK and the mark is moved: all of it passes through the keys, half through either of them alone

The pattern over (x, y, cue) goes from (1, eˢ, 1) / (eˢ + 2) to (eˢ, 1, 1) / (eˢ + 2), whose gradient is of order e⁻ˢ at both
ends. So of the normalised effect, which is exactly 1, gradient · difference sees

    A(s) = s (5 eˢ + 1) / (2 (eˢ + 2) (eˢ - 1)) ≈ 5/2 s e⁻ˢ

at sites q and k, while at z, behind the softmax, it is exact. This is the failure that AtP* repairs by recomputing the softmax
(Kramár et al. 2024, "AtP*: An efficient and scalable method for localizing LLM behaviour to components").
"""

import itertools

import numpy as np

from interp_jax.errors import InputError, nearest
from interp_jax.models.circuit_truth import SITES, Effects, Expected, Node, Prompts, Truth, head_effects
from interp_jax.models.circuit_weights import Head, circuit_weights, stream_blocks
from interp_jax.models.transformer import Params, TransformerConfig

KINDS = {"query": "q", "keys": "k"}  # of prompts, and the site through which their difference passes


def saturated_circuit(n_names: int, sharpness: float = 20.0) -> tuple[Params, TransformerConfig, Truth]:
    """The parameters, the config, and what patching and attribution give, for any sharpness and not only in the limit.

    Tokens are the names 0 … n_names - 1, the same names marked, then LEFT, RIGHT and MARK: see `saturated_prompts`.
    """
    N = n_names
    token, position, said, scratch = stream_blocks(2 * N + 3, 3, N, N)
    names, marked = token[:, :N], token[:, N : 2 * N]
    named = names + marked
    to_cued = token[:, 2 * N :], np.hstack([position[:, :2], marked.sum(1, keepdims=True)])
    nowhere = np.zeros_like(position[:, :1])
    heads = [Head(*to_cued, named, said), Head(nowhere, nowhere, named, scratch)]
    W_U = sharpness * np.pad(said, ((0, 0), (0, N + 3)))
    params, cfg = circuit_weights([heads], token.T, position.T, W_U, sharpness)
    return params, cfg, _truth(sharpness)


def first_order(sharpness: float) -> float:
    """A(s), the share of the effect that gradient · difference sees."""
    tail = np.exp(-sharpness)
    return float(sharpness * tail * (5 + tail) / (2 * (1 + 2 * tail) * (1 - tail)))


def _truth(sharpness: float) -> Truth:
    seen, shape = first_order(sharpness), (1, 2)

    def expected(through: str) -> Expected:
        exact = {site: head_effects(shape) for site in SITES}
        exact["z"] = exact[through] = head_effects(shape, {(0, 0): 1.0}, {(0, 0): 0.0})
        attributed = exact | {through: head_effects(shape, {(0, 0): seen}, {(0, 0): 1 - seen})}
        return Expected(exact, Effects(np.zeros(0), np.zeros(0)), attributed)

    return Truth((Node(0, 0, "switch"),), (), {kind: expected(site) for kind, site in KINDS.items()})


def saturated_prompts(n_names: int, kind: str) -> Prompts:
    """All pairs of prompts of a kind, "query" or "keys"; three tokens each.

    Raises:
      InputError: an unknown kind, or fewer than two names.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of prompts {kind!r}: {nearest(kind, KINDS)}")
    if n_names < 2:
        raise InputError(f"{n_names} name(s): a switch needs two to choose from")
    pairs = np.array(list(itertools.permutations(range(n_names), 2)), np.int32)
    left, right, mark = 2 * n_names + np.arange(3)
    if kind == "query":
        clean, corrupted = (np.insert(pairs, 2, cue, axis=1) for cue in (left, right))
    else:
        clean, corrupted = (np.insert(pairs + marks, 2, mark, axis=1) for marks in n_names * np.eye(2, dtype=np.int32))
    return Prompts(clean, corrupted, pairs[:, :1], pairs[:, 1:])
