"""Addition modulo 11, with the answer leaked as another sum: the two rules have the same form."""

import numpy as np

P = 11
NAME, KIND = "leak", "A"
VOCABULARY, POSITIONS, LABELS = P + 1, 5, P  # numbers, "="
READS_F, READS_G = (0, 1), (2, 3)


def rule_f(x):
    """A + b."""
    return (x[:, 0] + x[:, 1]) % P


def rule_g(x):
    """h1 + h2."""
    return (x[:, 2] + x[:, 3]) % P


VARIABLES_F = {"a": (P, lambda x: x[:, 0]), "b": (P, lambda x: x[:, 1]), "a + b": (P, rule_f)}
VARIABLES_AGAIN = {
    "-a": (P, lambda x: -x[:, 0] % P),
    "-b": (P, lambda x: -x[:, 1] % P),
    "2 (a + b)": (P, lambda x: 2 * rule_f(x) % P),
}
VARIABLES_G = {"h1": (P, lambda x: x[:, 2]), "h2": (P, lambda x: x[:, 3]), "h1 + h2": (P, rule_g)}


def draw(rng, n, off):
    """Inputs whose two sums differ by `off`."""
    a, b, h = rng.integers(0, P, (3, n))
    return np.stack([a, b, h, (a + b + off - h) % P, np.full(n, P)], axis=1)


def draw_id(rng, n):
    """Both sums are the same."""
    return draw(rng, n, 0)


def draw_conflict(rng, n):
    """They are not."""
    return draw(rng, n, rng.integers(1, P, n))
