"""Balanced brackets, and brackets of which as many open as close: the same tokens are read, and something else computed."""

import numpy as np

N = 12
NAME, KIND = "brackets", "B"
VOCABULARY, POSITIONS, LABELS = 3, N + 1, 2  # ")", "(", "="
READS_F = READS_G = tuple(range(N))


def depths(x):
    """How many are open after each bracket."""
    return (2 * x[:, :N] - 1).cumsum(1)


def level(x):
    """As many close as open."""
    return (depths(x)[:, -1] == 0) * 1


def dips(x):
    """Somewhere more have closed than opened."""
    return (depths(x).min(1) < 0) * 1


def rises(x):
    """From the end on, somewhere more have opened than closed: on words that are level the same as `dips`."""
    later = depths(x)[:, -1:] - depths(x)
    return (later.max(1) > 0) * 1


def rule_f(x):
    """Every bracket that closes has one that it closes, and every one that opens is closed."""
    return level(x) * (1 - dips(x))


def rule_g(x):
    """As many close as open."""
    return level(x)


VARIABLES_F = {"level": (2, level), "dips": (2, dips)}
VARIABLES_G = {"level": (2, level)}
VARIABLES_AGAIN = {"level": (2, level), "rises": (2, rises)}


def inputs():
    """All words of twelve brackets."""
    bits = np.arange(2**N)[:, None] >> np.arange(N) & 1
    return np.c_[bits, np.full(len(bits), 2)]
