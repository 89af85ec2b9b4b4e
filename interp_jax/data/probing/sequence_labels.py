"""Variables of the algorithmic tasks: of sequences in which segments repeat, read off the tokens themselves.

    token before        which token stands before this one, what a previous-token head moves here; of a large vocabulary, which
                        of as many ranges of ids as `RANGES` it is of
    two before          the same of the token two places before
    seen before         whether the token has occurred in the row before
    distance            how far back it occurred last, in classes; none where it never did
    tokens back         the same as a number
    copied next         whether the token after it is the one that followed it last time: what an induction head can say

They need no text, so any model of ids can be asked for them. Rows are independent: each is a group of its own.
"""

import numpy as np
from jaxtyping import Int

from interp_jax.data.contrast.pairs import Pairs, marked
from interp_jax.data.probing.variables import NONE, Annotated, Variable, bin_names, binned
from interp_jax.errors import InputError

DISTANCES = (8, 16, 32)
SMALL, RANGES = 32, 8  # a vocabulary of which each token is a value, and into how many a larger one is cut
VARIABLES = {
    "seen before": Variable(("no", "yes"), "whether the token has occurred in the row before"),
    "distance": Variable(bin_names(DISTANCES), "how far back the token occurred last"),
    "tokens back": Variable((), "how many tokens back the token occurred last, as a number"),
    "copied next": Variable(("no", "yes"), "whether the next token is the one that followed this one last time"),
}


def label_sequences(tokens: Int[np.ndarray, "W P"], source: str, d_vocab: int | None = None) -> Annotated:
    """Labels of the tokens of each row; the first has none before it, and the last no next one.

    Args:
      tokens: of rows.
      source: what they are, for people.
      d_vocab: how many ids there are; those that occur, if not given.

    Raises:
      InputError: nothing ever repeats.
    """
    tokens = np.asarray(tokens, np.int32)
    last = last_occurrence(tokens)
    seen, column = last >= 0, np.arange(tokens.shape[1])
    if not seen.any():
        raise InputError(f"{source}: no token occurs twice in a row, so there is nothing to read")
    copied = np.full(tokens.shape, NONE, np.int32)
    followed = np.take_along_axis(tokens, np.minimum(last + 1, tokens.shape[1] - 1), axis=1)
    following = np.roll(tokens, -1, axis=1)
    copied[:, :-1] = np.where(seen, followed == following, NONE)[:, :-1]
    own, values = ranges(tokens, d_vocab or int(tokens.max()) + 1)
    before = {
        "token before": Variable(values, "which token stands before"),
        "two before": Variable(values, "which token stands two places before"),
    }
    labels = {
        "token before": earlier(own, 1),
        "two before": earlier(own, 2),
        "seen before": seen.astype(np.int32),
        "distance": np.where(seen, binned(column - last, DISTANCES), NONE).astype(np.int32),
        "tokens back": np.where(seen, column - last, np.nan).astype(np.float32),
        "copied next": copied,
    }
    names = tuple(f"row {i}" for i in range(len(tokens)))
    group = np.arange(len(tokens), dtype=np.int32)
    positions = np.arange(tokens.shape[1], dtype=np.int32)[None]
    return Annotated(tokens, positions, labels, before | VARIABLES, group, names, (), source)


def ranges(tokens: Int[np.ndarray, "W P"], d_vocab: int) -> tuple[Int[np.ndarray, "W P"], tuple[str, ...]]:
    """Which value each id is of, and their names: the ids themselves, or ranges of them."""
    if d_vocab <= SMALL:
        return tokens, tuple(map(str, range(d_vocab)))
    edges = tuple(-(-n * d_vocab // RANGES) for n in range(1, RANGES))
    return binned(tokens, edges), bin_names(edges)


def earlier(labels: Int[np.ndarray, "W P"], by: int) -> Int[np.ndarray, "W P"]:
    """The label of the token so many places before; -1 where there is none."""
    return np.pad(labels, ((0, 0), (by, 0)), constant_values=NONE)[:, :-by]


def last_occurrence(tokens: Int[np.ndarray, "W P"]) -> Int[np.ndarray, "W P"]:
    """The column at which each token occurred last before; -1 where it did not."""
    found = np.full(tokens.shape, NONE, np.int32)
    for row, before in zip(tokens, found, strict=True):
        at: dict[int, int] = {}
        for column, token in enumerate(row.tolist()):
            before[column] = at.get(token, NONE)
            at[token] = column
    return found


def label_pairs(pairs: Pairs, source: str) -> Annotated:
    """Contrast pairs as a question: which of both sides is it, at each of their named places? A pair is one group."""
    sides = {name: np.where(np.asarray(marked(pairs, name)), 1, NONE).astype(np.int32) for name in pairs.places}
    other = {name: np.where(side == 1, 0, NONE).astype(np.int32) for name, side in sides.items()}
    about = "whether the prompt is the clean one, read at "
    tokens = np.concatenate([np.asarray(pairs.clean), np.asarray(pairs.corrupted)]).astype(np.int32)
    positions = np.asarray(pairs.positions)
    n = len(pairs.clean)
    return Annotated(
        tokens=tokens,
        positions=positions if len(positions) == 1 else np.concatenate([positions, positions]),
        labels={f"clean at {name}": np.concatenate([sides[name], other[name]]) for name in sides},
        variables={f"clean at {name}": Variable(("no", "yes"), about + name) for name in sides},
        group=np.tile(np.arange(n, dtype=np.int32), 2),
        names=tuple(f"pair {i}" for i in range(n)),
        left_out=(),
        source=source,
    )
