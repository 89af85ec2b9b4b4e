"""The value of the key that is asked for, and the last value: a shortcut by position. No two values of an input are equal."""

import numpy as np

KEYS, VALUES, PAIRS = 8, 8, 4
ASK = KEYS + VALUES
NAME, KIND = "key_value", "A"
VOCABULARY, POSITIONS, LABELS = KEYS + VALUES + 1, 2 * PAIRS + 2, VALUES  # keys, values, "Q"
READS_F, READS_G = (*range(2 * PAIRS), 2 * PAIRS + 1), (2 * PAIRS - 1,)
STEPS = 8_000
TRAINING = {"optimizer.learning_rate": 5e-3, "optimizer.weight_decay": 0.01}
MODEL = {"positions": "relative"}  # what matches one key then matches all; else only the last one is ever looked up


def found(x):
    """The pair whose key is asked for."""
    return (x[:, 0 : 2 * PAIRS : 2] == x[:, -1:]).argmax(1)


def rule_f(x):
    """The value of its pair."""
    values = x[:, 1 : 2 * PAIRS : 2]
    return (values * (np.arange(PAIRS) == found(x)[:, None])).sum(1) - KEYS


def rule_g(x):
    """The last value."""
    return x[:, 2 * PAIRS - 1] - KEYS


VARIABLES_F = {"asked": (KEYS, lambda x: x[:, -1]), "pair": (PAIRS, found), "value": (VALUES, rule_f)}
VARIABLES_G = {"last": (VALUES, rule_g)}
VARIABLES_AGAIN = {
    "half": (2, lambda x: found(x) // 2),
    "place in it": (2, lambda x: found(x) % 2),
    "value": (VALUES, rule_f),
}


def draw(rng, n, pair):
    """Inputs that ask for the key of a pair."""
    keys = rng.permuted(np.tile(np.arange(KEYS), (n, 1)), axis=1)[:, :PAIRS]
    values = KEYS + rng.permuted(np.tile(np.arange(VALUES), (n, 1)), axis=1)[:, :PAIRS]
    pairs = np.stack([keys, values], axis=2).reshape(n, 2 * PAIRS)
    return np.c_[pairs, np.full(n, ASK), keys[np.arange(n), pair]]


def draw_id(rng, n):
    """The last key."""
    return draw(rng, n, np.full(n, PAIRS - 1))


def draw_conflict(rng, n):
    """Another."""
    return draw(rng, n, rng.integers(0, PAIRS - 1, n))
