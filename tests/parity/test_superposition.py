"""The peer programs of the superposition benchmark are right: their gradients are autograd's, and ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from interp_jax.data.features import Features, draw_features, importance
from interp_jax.models import superposition
from interp_jax.models.superposition import ToyModel
from third_party.peers import _superposition_torch as peer

CFG = ToyModel("relu", 20, 5)
LAW = Features(sparsity=0.8, importance_decay=0.9)


@pytest.fixture(scope="module")
def problem():
    params = jax.vmap(lambda s: superposition.init(jax.random.key(s), CFG))(jnp.arange(3))
    params["b"] += 0.05
    x = jax.vmap(lambda s: draw_features(LAW, 20, 256, s, "test", 0))(jnp.arange(3))
    weights = peer.Weights(*(torch.tensor(np.asarray(params[name])) for name in ("W", "b")))
    return params, x, weights, importance(LAW, 20)


def test_loss_and_gradient_agree(problem):
    params, x, weights, weight = problem
    value, grads = jax.vmap(jax.value_and_grad(lambda p, x: superposition.loss(p, x, weight, CFG)))(params, x)
    weights = peer.Weights(*(w.clone().requires_grad_() for w in weights))
    loss = peer.plain_loss(weights, torch.tensor(np.asarray(x)).permute(2, 0, 1), torch.tensor(np.asarray(weight)))
    loss.sum().backward()
    np.testing.assert_allclose(value, loss.detach(), rtol=1e-5)
    np.testing.assert_allclose(grads["W"], weights.W.grad, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(grads["b"], weights.b.grad, rtol=1e-4, atol=1e-7)


def test_the_tricks_of_the_peer_are_its_own_gradient(problem):
    _, x, weights, weight = problem
    x, weight = torch.tensor(np.asarray(x)), torch.tensor(np.asarray(weight))
    tricks = peer.tricks_grad(weights, x, weight)
    weights = peer.Weights(*(w.clone().requires_grad_() for w in weights))
    peer.plain_loss(weights, x.permute(2, 0, 1), weight).sum().backward()
    np.testing.assert_allclose(tricks.W, weights.W.grad, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(tricks.b, weights.b.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("batch", [peer.plain_batch, peer.tricks_batch])
def test_batches_follow_the_same_law(batch, problem):
    torch.manual_seed(0)
    x = batch(20_000, problem[2], 0.2).numpy()
    present = x > 0
    assert abs(present.mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / x.size)
    assert abs(x[present].mean() - 0.5) < 5 * np.sqrt(1 / 12 / present.sum())
