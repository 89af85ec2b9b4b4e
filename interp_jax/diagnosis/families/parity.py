"""The parity of three bits, and a bit that says it: a spurious cue."""

import numpy as np

NAME, KIND = "parity", "A"
VOCABULARY, POSITIONS, LABELS = 3, 13, 2  # 0, 1, "="
READS_F, READS_G = (0, 2, 5), (7,)


def rule_f(x):
    """b0 ⊕ b2 ⊕ b5."""
    return x[:, 0] ^ x[:, 2] ^ x[:, 5]


def rule_g(x):
    """b7."""
    return x[:, 7]


VARIABLES_F = {
    "b0": (2, lambda x: x[:, 0]),
    "b2": (2, lambda x: x[:, 2]),
    "b5": (2, lambda x: x[:, 5]),
    "b0 ⊕ b2": (2, lambda x: x[:, 0] ^ x[:, 2]),
}
VARIABLES_G = {"b7": (2, rule_g)}
VARIABLES_AGAIN = {
    "b0": (2, lambda x: x[:, 0]),
    "b5": (2, lambda x: x[:, 5]),
    "b2 ⊕ b5": (2, lambda x: x[:, 2] ^ x[:, 5]),
}


def inputs():
    """All words of twelve bits."""
    bits = np.arange(2**12)[:, None] >> np.arange(12) & 1
    return np.c_[bits, np.full(len(bits), 2)]
