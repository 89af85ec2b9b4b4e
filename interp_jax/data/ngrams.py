"""What counting gives: the held-out loss of n-gram models, the floor that a model without attention stands on.

    p_n(x | c) = (count(c, x) + PRIOR p_{n-1}(x | c')) / (count(c) + PRIOR)        p_0 = 1/V,  c' = c less its oldest token

A hierarchical Dirichlet prior (MacKay and Peto 1995): a context that was never seen defers to the shorter one.
"""

import numpy as np
from jaxtyping import Float, Integer

PRIOR = 4.0  # pseudo-counts given to the shorter context


def ngram_losses(
    train: Integer[np.ndarray, " N"], held_out: Integer[np.ndarray, " M"], d_vocab: int, order: int = 3
) -> Float[np.ndarray, " order"]:
    """Mean loss, in nats per token, of n = 1 … `order` on the held-out tokens from the `order`-th on."""
    probability = np.full(len(held_out) - order + 1, 1.0 / d_vocab)
    losses = []
    for n in range(1, order + 1):
        runs, asked = _codes(train, n, d_vocab), _codes(held_out[order - n :], n, d_vocab)
        seen = _lookup(np.unique(runs, return_counts=True), asked)
        total = _lookup(np.unique(runs // d_vocab, return_counts=True), asked // d_vocab)
        probability = (seen + PRIOR * probability) / (total + PRIOR)
        losses.append(-np.log(probability).mean())
    return np.array(losses)


def _codes(tokens: np.ndarray, n: int, d_vocab: int) -> Integer[np.ndarray, " _"]:
    """Every run of `n` tokens as one integer."""
    length = len(tokens) - n + 1
    code = np.zeros(length, np.int64)
    for i in range(n):
        code = code * d_vocab + tokens[i : i + length]
    return code


def _lookup(table: tuple[np.ndarray, np.ndarray], codes: np.ndarray) -> Float[np.ndarray, " _"]:
    keys, counts = table
    place = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
    return np.where(keys[place] == codes, counts[place], 0).astype(np.float64)
