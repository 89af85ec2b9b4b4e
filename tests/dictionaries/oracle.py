"""Losses of all kinds of dictionary in NumPy float64, example by example: what the tests compare with.

Of transcoders too, which are told by a `W_dec` that is not as wide as `x`: they say `y`, and nothing is taken off `x`.
"""

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def read(p, x):
    centre = p["b_dec"] if p["W_dec"].shape[1] == x.shape[1] else np.zeros(x.shape[1])
    return np.array([[w @ (row - centre) + b for w, b in zip(p["W_enc"], p["b_enc"], strict=True)] for row in x])


def say(p, f):
    return np.array([sum((c * w for c, w in zip(row, p["W_dec"], strict=True)), p["b_dec"]) for row in f])


def error(y, said):
    return float(np.mean([((a - b) ** 2).sum() for a, b in zip(y, said, strict=True)]))


def lengths(p, pieces=1):
    return sum(np.sqrt((part**2).sum(1)) for part in np.split(p["W_dec"], pieces, axis=1))


def largest(z, n):
    """z with all but the n largest positive entries set to 0."""
    kept = np.argsort(-z.ravel(), kind="stable")[:n]
    f = np.zeros(z.size)
    f[kept] = relu(z.ravel()[kept])
    return f.reshape(z.shape)


def standard(p, x, cfg, progress, y=None):
    f = relu(read(p, x))
    return f, error(x if y is None else y, say(p, f)) + cfg.sparsity * np.mean(f @ lengths(p, cfg.pieces))


def p_anneal(p, x, cfg, progress, y=None):
    f = relu(read(p, x))
    power = 1 + (cfg.last_power - 1) * np.clip((progress - cfg.anneal_start) / (1 - cfg.anneal_start), 0, 1)
    sizes = f * lengths(p, cfg.pieces)
    powers = np.where(sizes > 1e-6, np.maximum(sizes, 1e-6) ** power, 0)
    return f, error(x if y is None else y, say(p, f)) + cfg.sparsity * sizes.sum() / powers.sum() * powers.sum(
        1
    ).mean()


def gated(p, x, cfg, progress, y=None):
    z = read(p | {"b_enc": 0 * p["b_enc"]}, x)
    gate = z + p["b_enc"]
    f = np.where(gate > 0, relu(np.exp(p["r_mag"]) * z + p["b_mag"]), 0)
    penalty = np.mean(relu(gate) @ lengths(p, cfg.pieces))
    return f, error(x if y is None else y, say(p, f)) + cfg.sparsity * penalty + error(
        x if y is None else y, say(p, relu(gate))
    )


def topk(p, x, cfg, progress, y=None):
    f = np.array([largest(row[None], cfg.k)[0] for row in read(p, x)])
    return f, error(x if y is None else y, say(p, f))


def abs_topk(p, x, cfg, progress, y=None):
    z = read(p, x)
    f = np.array([np.where(largest(np.abs(row)[None], cfg.k)[0] > 0, row, 0) for row in z])
    return f, error(x if y is None else y, say(p, f))


def batch_topk(p, x, cfg, progress, y=None):
    f = largest(read(p, x), len(x) * cfg.k)
    return f, error(x if y is None else y, say(p, f))


def matryoshka(p, x, cfg, progress, y=None):
    f = largest(read(p, x), len(x) * cfg.k)
    ends = [round(share * f.shape[1]) for share in cfg.prefixes]
    return f, float(
        np.mean([error(x if y is None else y, say(p, np.where(np.arange(f.shape[1]) < m, f, 0))) for m in ends])
    )


def jumprelu(p, x, cfg, progress, y=None):
    z, threshold = read(p, x), np.exp(p["log_threshold"]) if cfg.thresholds == "log" else p["threshold"]
    f = np.where(z > threshold, z, 0)
    l0 = (z > threshold).sum(1).mean()
    penalty = {
        "step": l0,
        "target": (l0 / cfg.target - 1) ** 2,
        "tanh": np.tanh(cfg.tanh_scale * f * lengths(p, cfg.pieces)).sum(1).mean(),
    }[cfg.penalty]
    return f, error(x if y is None else y, say(p, f)) + cfg.sparsity * penalty


def matching_pursuit(p, x, cfg, progress, y=None):
    f = np.zeros((len(x), len(p["W_dec"])))
    for row, example in zip(f, x, strict=True):
        left = example - p["b_dec"]
        for _ in range(cfg.k):
            found = (p["W_dec"] @ left).argmax()
            c = max(p["W_dec"][found] @ left, 0)
            row[found] += c
            left = left - c * p["W_dec"][found]
    return f, error(x if y is None else y, say(p, f))


def auxiliary(p, x, left, dead, form):
    """Of the dead features that reconstruct what is left, example by example."""
    z, k = read(p, x), x.shape[1] // 2
    said = np.zeros_like(left)
    for row, example in zip(said, z, strict=True):
        for i in sorted(np.flatnonzero(dead), key=lambda i: -example[i])[:k]:
            row += (example[i] if form == "saelens" else relu(example[i])) * p["W_dec"][i]
    missed = error(left, said) if dead.any() else 0.0
    if form == "saelens":
        return min(dead.sum() / k, 1) * missed
    return missed / error(left, np.tile(left.mean(0), (len(left), 1)))
