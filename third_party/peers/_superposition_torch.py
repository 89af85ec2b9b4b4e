"""Populations of toy models in PyTorch: as the paper's own code is organised, and with the tricks that interp_jax uses.

Both hold W [R, S, D] and b [R, S] and train them with Adam on fresh features of density p at every step.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Weights(NamedTuple):
    """W [R, S, D] and b [R, S] of R instances."""

    W: Tensor
    b: Tensor


def plain_batch(n_examples: int, weights: Weights, p: float) -> Tensor:
    """Features [B, R, S]: one uniform draw for the value, one for the presence."""
    shape = (n_examples, *weights.b.shape)
    return torch.where(torch.rand(shape) <= p, torch.rand(shape), torch.zeros(()))


def plain_loss(weights: Weights, x: Tensor, importance: Tensor) -> Tensor:
    """Mean over batch and features of importance · (x − x̂)², of each instance [R]."""
    hidden = torch.einsum("brs,rsd->brd", x, weights.W)
    out = torch.relu(torch.einsum("brd,rsd->brs", hidden, weights.W) + weights.b)
    return (importance * (x - out) ** 2).mean((0, 2))


def train_plain(weights: Weights, steps: int, n_examples: int, p: float, importance: Tensor, rate: float) -> Weights:
    """Autograd and torch's Adam with its defaults."""
    weights = Weights(*(w.clone().requires_grad_() for w in weights))
    optimizer = torch.optim.Adam(weights, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        plain_loss(weights, plain_batch(n_examples, weights, p), importance).sum().backward()
        optimizer.step()
    return Weights(*(w.detach() for w in weights))


def tricks_batch(n_examples: int, weights: Weights, p: float) -> Tensor:
    """Features [R, S, B]: one uniform draw u says presence, u < p, and value, u / p."""
    u = torch.rand((*weights.b.shape, n_examples))
    return u.mul_(1 / p).masked_fill_(u >= 1, 0.0)


def tricks_grad(weights: Weights, x: Tensor, importance: Tensor) -> Weights:
    """The gradient in Gram form: Q = (∂loss/∂a) xᵀ, ∂loss/∂W = (Q + Qᵀ) W."""
    W, b = weights
    a = torch.baddbmm(b[:, :, None], W @ W.mT, x)
    d = (a - x).mul_((2 / (x.shape[1] * x.shape[2])) * importance[:, None]).mul_(a > 0)
    Q = d @ x.mT
    return Weights((Q + Q.mT) @ W, d.sum(2))


@torch.no_grad()
def train_tricks(weights: Weights, steps: int, n_examples: int, p: float, importance: Tensor, rate: float) -> Weights:
    """One draw per feature, batch-minor data, hand-written gradient, fused Adam."""
    weights = Weights(*(w.clone() for w in weights))
    optimizer = torch.optim.Adam(weights, lr=rate, fused=True)
    for _ in range(steps):
        grads = tricks_grad(weights, tricks_batch(n_examples, weights, p), importance)
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        optimizer.step()
    return weights
