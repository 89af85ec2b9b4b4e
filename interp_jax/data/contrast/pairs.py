"""Contrast pairs: a clean and a corrupted prompt that differ where it matters and nowhere else, for activation patching.

A patch moves an activation between two runs at one position, so that a position must mean the same on both sides: both have
the same number of tokens and the same padding, and what is asked of both is the same question.

    denoising   the base run is the corrupted one, and activations of the clean one are patched in: what suffices
    noising     the reverse: what is necessary

Besides a second prompt, three corruptions need none: zero (an edit), noise on the embeddings (Meng et al. 2022, "Locating and
Editing Factual Associations in GPT") and another example's prompt (`resampled`; Chan et al. 2022, "Causal Scrubbing").
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from interp_jax import randomness
from interp_jax.data.tokens import PADDING, Tokens
from interp_jax.errors import InputError, nearest

END = "END"  # the place where the answer is predicted: a row's last token
Scalar = Integer[Array, ""] | int


class Pairs(NamedTuple):
    """B pairs of prompts.

    Attributes:
      clean: the prompts whose continuation is the answer, int32.
      corrupted: the prompts that differ from them.
      positions: 0, 1, … over the real tokens of both sides, -1 on padding; one row where no row is padded.
      answers: tokens that are right on the clean side, each at most once; -1 fills up the shorter sets on the right.
      others: likewise, the tokens that the answers are measured against.
      places: named columns, as "IO" or "END".
    """

    clean: Int[Array, "B P"]
    corrupted: Int[Array, "B P"]
    positions: Int[Array, "#B P"]
    answers: Int[Array, "B N"]
    others: Int[Array, "B M"]
    places: dict[str, Int[Array, " B"]]


def select(pairs: Pairs, examples: Sequence[int] | Integer[np.ndarray, " _"] | Bool[np.ndarray, " B"]) -> Pairs:
    """The pairs of these examples: their indices, or a mask of all.

    Raises:
      InputError: an example that is not there.
    """
    try:
        rows = np.arange(len(pairs.clean))[np.asarray(examples)]  # JAX would take the last for one that is not there
    except IndexError as error:
        raise InputError(f"examples of {len(pairs.clean)} pairs: {error}") from None
    chosen = jax.tree.map(lambda x: x[rows], pairs._replace(positions=None))
    return chosen._replace(positions=pairs.positions if len(pairs.positions) == 1 else pairs.positions[rows])


def marked(pairs: Pairs, *names: str) -> Bool[Array, "B P"]:
    """Where these places lie: a mask for edits and for `noise`.

    Raises:
      InputError: the pairs have no such place.
    """
    for name in names:
        if name not in pairs.places:
            raise InputError(f"the pairs have no place {name!r}: {nearest(name, pairs.places)}")
    column = jnp.arange(pairs.clean.shape[1])
    at = [column == jnp.asarray(pairs.places[name])[:, None] for name in names]
    return jnp.any(jnp.stack(at), axis=0) if at else jnp.zeros(pairs.clean.shape, bool)


def noise(
    seed: Scalar, W_E: Float[Array, "V D"], tokens: Tokens, where: Bool[Array, "#B #P"], sigma: float | Array = 3.0
) -> Float[Array, "B P D"]:
    """What to add at site "embed" of the clean run: sigma s ε where `where` holds and 0 elsewhere, ε standard normal.

    s is the standard deviation of all components of the embeddings at the chosen places of the whole batch.

    Raises:
      InputError: no place is chosen.
    """
    where = jnp.broadcast_to(where, tokens.shape)
    if not isinstance(where, jax.core.Tracer) and not where.any():
        raise InputError("where chooses no place: there is nothing to put noise on")
    spread = jnp.std(W_E[tokens], where=where[..., None])
    draw = jax.random.normal(randomness.key(seed, "contrast.noise"), (*tokens.shape, W_E.shape[1]), W_E.dtype)
    return jnp.where(where[..., None], sigma * spread * draw, 0).astype(W_E.dtype)


def derangement(seed: Scalar, n: int) -> Int[Array, " n"]:
    """A permutation that leaves nobody in place: a cycle through all n, uniform among such cycles.

    Raises:
      InputError: fewer than two.
    """
    if n < 2:
        raise InputError(f"n = {n}: a derangement needs at least two, or somebody gets itself")
    order = jax.random.permutation(randomness.key(seed, "contrast.derangement"), n).astype(jnp.int32)
    return jnp.zeros(n, jnp.int32).at[order].set(jnp.roll(order, -1))


def resampled(pairs: Pairs, seed: int) -> Pairs:
    """The corrupted side replaced by other examples' clean prompts of the same padding; nobody gets its own.

    Answers, others and places stay those of the example itself.

    Raises:
      InputError: an example that shares its padding with no other.
    """
    real = np.broadcast_to(np.asarray(pairs.positions) >= 0, pairs.clean.shape)
    source = np.arange(len(real))
    for kind in np.unique(real, axis=0):
        members = np.flatnonzero((real == kind).all(axis=1))
        if len(members) == 1:
            raise InputError(
                f"pair {members[0]} is the only one with {kind.sum()} tokens in these columns: resampling needs another"
            )
        source[members] = members[np.asarray(derangement(seed, len(members)))]
    return pairs._replace(corrupted=jnp.asarray(pairs.clean)[source])


def check_pairs(pairs: Pairs, d_vocab: int) -> None:
    """Raise `InputError` that names the first example which cannot be patched in a model with `d_vocab` tokens.

    Refused: sides of unequal shape, positions that do not count the real tokens, ids beyond the vocabulary, equal sides,
    no answer, a token named twice among answers and others, a place on no real token.
    """
    clean, corrupted, positions = (np.asarray(x) for x in pairs[:3])
    if clean.ndim != 2 or clean.shape != corrupted.shape or not clean.size:
        raise InputError(f"pairs.clean is {list(clean.shape)}, pairs.corrupted {list(corrupted.shape)}: must be [B P]")
    if positions.shape not in {(1, clean.shape[1]), clean.shape}:
        raise InputError(f"pairs.positions is {list(positions.shape)} for tokens {list(clean.shape)}")
    real = np.broadcast_to(positions >= 0, clean.shape)
    counted = np.where(real, real.cumsum(axis=1) - 1, PADDING) == positions
    if (i := _first(~counted.all(axis=1) | ~real.any(axis=1))) is not None:
        raise InputError(f"pair {i}: its positions must be 0, 1, … on its tokens and -1 on padding")
    _check_ids("clean", clean, 0, d_vocab)
    _check_ids("corrupted", corrupted, 0, d_vocab)
    if (i := _first(((clean == corrupted) | ~real).all(axis=1))) is not None:
        raise InputError(f"pair {i}: clean and corrupted are the same tokens {clean[i][real[i]].tolist()}")
    _check_sets(np.asarray(pairs.answers), np.asarray(pairs.others), len(clean), d_vocab)
    for name, columns in pairs.places.items():
        _check_place(name, np.asarray(columns), real)


def _check_ids(name: str, tokens: np.ndarray, least: int, d_vocab: int) -> None:
    bad = (tokens < least) | (tokens >= d_vocab)
    if (i := _first(bad.any(axis=1))) is not None:
        raise InputError(f"pair {i}: {name} has token {tokens[i][bad[i]][0]}: ids go from 0 to {d_vocab - 1}")


def _check_sets(answers: np.ndarray, others: np.ndarray, n_pairs: int, d_vocab: int) -> None:
    for name, tokens in (("answers", answers), ("others", others)):
        if tokens.ndim != 2 or len(tokens) != n_pairs or not tokens.size:
            raise InputError(f"pairs.{name} is {list(tokens.shape)} for {n_pairs} pairs: must be [B N]")
        _check_ids(name, tokens, PADDING, d_vocab)
        given = tokens != PADDING
        if (i := _first(~given[:, 0] | (given[:, 1:] > given[:, :-1]).any(axis=1))) is not None:
            raise InputError(f"pair {i}: {name} is {tokens[i].tolist()}: must be one token or more, then -1")
    named = np.sort(np.concatenate([answers, others], axis=1), axis=1)
    twice = (named[:, 1:] == named[:, :-1]) & (named[:, 1:] != PADDING)
    if (i := _first(twice.any(axis=1))) is not None:
        raise InputError(f"pair {i}: token {named[i, 1:][twice[i]][0]} is named twice among its answers and others")


def _check_place(name: str, columns: np.ndarray, real: np.ndarray) -> None:
    if columns.shape != real.shape[:1]:
        raise InputError(f"pairs.places[{name!r}] is {list(columns.shape)} for {len(real)} pairs: must be [B]")
    inside = (columns >= 0) & (columns < real.shape[1])
    on_token = inside & real[np.arange(len(real)), np.where(inside, columns, 0)]
    if (i := _first(~on_token)) is not None:
        raise InputError(f"pair {i}: its place {name!r} is column {columns[i]}, where it has no token")


def _first(bad: Bool[np.ndarray, " B"]) -> int | None:
    """The first example that is bad."""
    return int(np.argmax(bad)) if bad.any() else None
