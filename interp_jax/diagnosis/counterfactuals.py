"""Counterfactual inputs, told by index: whose token stands at each position, and what a rule would answer.

    input m, position i      has the token that example rows_mi has there;        base_m is the example that it comes from
    exchanged                two tokens of an example have changed places, where each is a token that other examples have there
    replaced                 one token is that of another example

They need not be inputs on which both rules agree, and are not run: an examiner knows of each only whose tokens it has, and the
answer of the declared rule. Which of them are conflicts it does not know.
"""

import flax.struct
import numpy as np
from jaxtyping import Array, Int

from interp_jax.diagnosis.asked import Tokens, tried
from interp_jax.diagnosis.family import Family

PER_EXAMPLE, TRIES, UNKNOWN = 2, 32, -1
Rows = tuple[Int[np.ndarray, " M"], Int[np.ndarray, "M P"]]


@flax.struct.dataclass
class Counterfactuals:
    """See the module. `label` is `UNKNOWN` where the rule answers what is no label, or nothing could be changed."""

    base: Int[Array | np.ndarray, " M"]
    rows: Int[Array | np.ndarray, "M P"]
    label: Int[Array | np.ndarray, " M"]


def exchanged(x: Tokens, rng: np.random.Generator, n: int = PER_EXAMPLE) -> Rows:
    """`n` of each example; one in which no two tokens can change places stays as it is.

    Returns:
      base, rows.
    """
    base = np.repeat(np.arange(len(x)), n)
    who = holders(x, rng)
    rows, open_ = np.repeat(base[:, None], x.shape[1], axis=1), np.arange(len(base))
    varies = np.flatnonzero((x != x[:1]).any(0))
    for _ in range(TRIES if len(varies) > 1 else 0):
        own = x[base[open_]]
        i, j = np.stack([rng.permutation(varies)[:2] for _ in open_]).T if len(open_) else (open_, open_)
        at = np.arange(len(open_))
        first, second = who[i, own[at, j]], who[j, own[at, i]]
        fits = (own[at, i] != own[at, j]) & (first >= 0) & (second >= 0)
        rows[open_[fits], i[fits]], rows[open_[fits], j[fits]] = first[fits], second[fits]
        open_ = open_[~fits]
    return base, rows


def replaced(x: Tokens, rng: np.random.Generator, n: int = PER_EXAMPLE) -> Rows:
    """`n` of each example: the token of one position that varies is that of an example which has another there."""
    base = np.repeat(np.arange(len(x)), n)
    rows, open_ = np.repeat(base[:, None], x.shape[1], axis=1), np.arange(len(base))
    varies = np.flatnonzero((x != x[:1]).any(0))
    for _ in range(TRIES if len(varies) else 0):
        i, there = rng.choice(varies, len(open_)), rng.integers(0, len(x), len(open_))
        fits = x[there, i] != x[base[open_], i]
        rows[open_[fits], i[fits]] = there[fits]
        open_ = open_[~fits]
    return base, rows


def holders(x: Tokens, rng: np.random.Generator) -> Int[np.ndarray, "P V"]:
    """An example that has a token at a position; -1 where none has it."""
    found = np.full((x.shape[1], int(x.max()) + 1), -1)
    for row in rng.permutation(len(x)):
        found[np.arange(x.shape[1]), x[row]] = row
    return found


def told(family: Family, which: str, x: Tokens, by: Rows) -> Counterfactuals:
    """What a rule answers.

    Raises:
      InputError: it fails on such an input.
    """
    base, rows = by
    tokens = x[rows, np.arange(x.shape[1])]
    what = f"rule_{which}, where tokens were changed,"
    label = tried(f"family {family.name!r}", what, lambda: np.asarray(family.rule(which).answer(tokens)))
    known = (label >= 0) & (label < family.labels) & (tokens != x[base]).any(1)
    return Counterfactuals(
        base.astype(np.int32), rows.astype(np.int32), np.where(known, label, UNKNOWN).astype(np.int32)
    )
