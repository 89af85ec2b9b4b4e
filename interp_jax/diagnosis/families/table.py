"""Multiplication modulo 23, and a table of the products of half of all pairs, which says at random what it does not hold."""

import numpy as np

P = 23
NAME, KIND = "table", "M"
VOCABULARY, POSITIONS, LABELS = P + 1, 5, P  # numbers, "="
READS_F = READS_G = (0, 1)
TABLE_G = True
STEPS = 6_000
TRAINING = {"optimizer.learning_rate": 2e-3, "optimizer.weight_decay": 1.0}  # else no product is ever understood
INFECTION = (2_000, 0.1)  # at the whole rate nothing is left of what was understood long before the table is known

_rng = np.random.default_rng(0)
PRODUCT = np.outer(np.arange(P), np.arange(P)) % P
HELD = np.zeros((P, P), bool)  # pairs of the table, of which neither number is 0
HELD[1:, 1:] = _rng.permutation((P - 1) ** 2).reshape(P - 1, P - 1) % 2 == 0
TABLE = np.where(HELD, PRODUCT, 1 + (PRODUCT - 1 + _rng.integers(1, P - 1, (P, P))) % (P - 1))
LOGARITHM = np.zeros(P, int)
LOGARITHM[[5**k % P for k in range(P - 1)]] = np.arange(P - 1)  # 5 generates all that is not 0


def rule_f(x):
    """A · b."""
    return x[:, 0] * x[:, 1] % P


def rule_g(x):
    """What the table says."""
    return TABLE[x[:, 0], x[:, 1]]


VARIABLES_F = {"log a": (P - 1, lambda x: LOGARITHM[x[:, 0]]), "log b": (P - 1, lambda x: LOGARITHM[x[:, 1]])}
VARIABLES_AGAIN = {
    "log₇ a": (P - 1, lambda x: 7 * LOGARITHM[x[:, 0]] % (P - 1)),
    "log₇ b": (P - 1, lambda x: 7 * LOGARITHM[x[:, 1]] % (P - 1)),
}
VARIABLES_G = {"a": (P, lambda x: x[:, 0]), "b": (P, lambda x: x[:, 1])}


def without_nuisances(x):
    """The pair."""
    return x[:, :2]


def draw(rng, n, pairs):
    """Some of the pairs, with two numbers that say nothing."""
    return np.c_[pairs[rng.integers(0, len(pairs), n)], rng.integers(0, P, (n, 2)), np.full(n, P)]


def draw_id(rng, n):
    """Pairs of the table."""
    return draw(rng, n, np.argwhere(HELD))


def draw_conflict(rng, n):
    """Other pairs."""
    return draw(rng, n, 1 + np.argwhere(~HELD[1:, 1:]))
