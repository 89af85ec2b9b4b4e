"""The majority of eleven bits, and the first of them: a heuristic that is right in most cases."""

import numpy as np

N = 11
NAME, KIND = "majority", "A"
VOCABULARY, POSITIONS, LABELS = 3, N + 1, 2  # 0, 1, "="
READS_F, READS_G = tuple(range(N)), (0,)


def rule_f(x):
    """More ones than zeros."""
    return (x[:, :N].sum(1) > N // 2) * 1


def rule_g(x):
    """The first bit."""
    return x[:, 0]


VARIABLES_F = {"ones": (N + 1, lambda x: x[:, :N].sum(1))}
VARIABLES_G = {"first": (2, rule_g)}
VARIABLES_AGAIN = {"early ones": (6, lambda x: x[:, :5].sum(1)), "late ones": (7, lambda x: x[:, 5:N].sum(1))}


def inputs():
    """All words of eleven bits."""
    bits = np.arange(2**N)[:, None] >> np.arange(N) & 1
    return np.c_[bits, np.full(len(bits), 2)]
