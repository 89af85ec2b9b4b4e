"""From rows of tokens to `Pairs`: both sides of a pair are equally long, or it is refused; examples are padded alike."""

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from interp_jax.data.contrast.pairs import Pairs
from interp_jax.data.tokens import PADDING, pad, unpad
from interp_jax.errors import InputError

Rows = Sequence[Sequence[int]]


def aligned(
    clean: Rows,
    corrupted: Rows,
    answers: Rows,
    others: Rows,
    places: Mapping[str, Sequence[int]],
    *,
    side: str = "left",
    fill: int = 0,
    labels: Sequence[str] | None = None,
    show: Callable[[Sequence[int]], str] = str,
) -> Pairs:
    """Pairs of B rows a side.

    Args:
      clean: the rows, without padding.
      corrupted: their counterparts.
      answers: the tokens that are right.
      others: the tokens they are measured against.
      places: for each name, the index in each row.
      side: where rows that are shorter than the longest are padded, "left" or "right".
      fill: the id that padding has.
      labels: what errors call each example; "pair 0", … by default.
      show: a row for people, in errors.

    Raises:
      InputError: no rows, different numbers of them, the two sides of a pair differ in length or are alike, no answer
        or other, a token named twice among them, or a place that lies outside its row.
    """
    counts = {len(x) for x in (clean, corrupted, answers, others, *places.values())}
    if counts == {0} or len(counts) > 1:
        raise InputError(f"clean and corrupted rows, answers, others and places are given for {sorted(counts)} pairs")
    labels = [f"pair {i}" for i in range(len(clean))] if labels is None else labels
    for label, *sides in zip(labels, clean, corrupted, strict=True):
        _check_sides(label, *map(list, sides), show)
    for label, *named in zip(labels, answers, others, strict=True):
        _check_named(label, *map(list, named), show)
    for name, indices in places.items():
        for label, row, index in zip(labels, clean, indices, strict=True):
            if not 0 <= index < len(row):
                raise InputError(f"{label}: its place {name!r} is {index}, but it has {len(row)} tokens")
    tokens, positions = pad(clean, side, fill=fill)
    before = np.asarray(positions == PADDING).sum(axis=1) if side == "left" else 0
    columns = {name: jnp.asarray(np.asarray(x) + before, jnp.int32) for name, x in places.items()}
    shared = positions[:1] if bool((positions >= 0).all()) else positions
    return Pairs(tokens, pad(corrupted, side, fill=fill).tokens, shared, _sets(answers), _sets(others), columns)


def concatenate(parts: Sequence[Pairs], *, side: str = "left", fill: int = 0) -> Pairs:
    """All pairs as one batch, padded anew on `side`.

    Raises:
      InputError: no parts, or parts whose places have different names.
    """
    if not parts:
        raise InputError("no pairs to concatenate")
    names = sorted(parts[0].places)
    for i, part in enumerate(parts):
        if sorted(part.places) != names:
            raise InputError(f"parts[{i}] has the places {sorted(part.places)}, parts[0] {names}")
    separate = zip(*map(_rows, parts), strict=True)
    clean, corrupted, answers, others = ([row for rows in kind for row in rows] for kind in separate)
    places = {name: np.concatenate([_indices(part, name) for part in parts]).tolist() for name in parts[0].places}
    return aligned(clean, corrupted, answers, others, places, side=side, fill=fill)


def _check_sides(label: str, clean: list[int], corrupted: list[int], show: Callable[[list[int]], str]) -> None:
    if len(clean) != len(corrupted):
        shown = f"{show(clean)} against {show(corrupted)}"
        raise InputError(f"{label}: clean has {len(clean)} tokens and corrupted {len(corrupted)}: {shown}")
    if not clean:
        raise InputError(f"{label}: clean and corrupted have no tokens")
    if clean == corrupted:
        raise InputError(f"{label}: clean and corrupted are the same tokens: {show(clean)}")


def _check_named(label: str, answers: list[int], others: list[int], show: Callable[[list[int]], str]) -> None:
    if not answers or not others:
        raise InputError(f"{label}: has no {'other' if answers else 'answer'}: give at least one token")
    named = answers + others
    if len(set(named)) < len(named):
        raise InputError(f"{label}: a token is named twice: answers {show(answers)}, others {show(others)}")


def _rows(pairs: Pairs) -> list[list[list[int]]]:
    """Clean, corrupted, answers and others without padding: what `aligned` takes."""
    sides = [unpad(side, pairs.positions) for side in (pairs.clean, pairs.corrupted)]
    return sides + [unpad(tokens, tokens) for tokens in (pairs.answers, pairs.others)]  # -1 is padding here


def _indices(pairs: Pairs, name: str) -> np.ndarray:
    """A place's index in each row without padding."""
    positions = np.broadcast_to(np.asarray(pairs.positions), pairs.clean.shape)
    return positions[np.arange(len(positions)), np.asarray(pairs.places[name])]


def _sets(rows: Rows) -> Int[Array, "B N"]:
    """Sets of tokens as one array; the shorter ones end in -1."""
    return pad(rows, fill=PADDING).tokens
