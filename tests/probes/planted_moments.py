"""Moments in float64 by their definition, of rows that are drawn."""

import numpy as np

from interp_jax.activations.moments import Moments


def moments_of(x, z, w=None):
    w = np.ones(len(x)) if w is None else w
    n = w.sum()
    mean, target = w @ x / n, w @ z / n
    a, b = x - mean, z - target
    return Moments(np.asarray(n), mean, target, (w * a.T) @ a, (w * a.T) @ b, (w * b.T) @ b)


def stacked_moments(each):
    return Moments(*(np.stack(leaves) for leaves in zip(*each, strict=True)))
