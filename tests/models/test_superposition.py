"""Toy models: the hand-written gradient against autodiff in float64, the loss against `apply`, and known solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.data.features import Features, draw_features, importance
from interp_jax.errors import InputError
from interp_jax.models import computation, superposition
from interp_jax.models.superposition import ToyModel
from interp_jax.taps import Edit, edit, record

KINDS = [ToyModel("relu", 7, 3), ToyModel("linear", 7, 3), ToyModel("relu", 40, 2)]
BOTH = [*KINDS, ToyModel("absolute", 7, 3)]


def module(cfg):
    return computation if cfg.kind == "absolute" else superposition


def batch(cfg, n=64, dtype=jnp.float32):
    law = Features(
        sparsity=0.6, importance_decay=0.9, last_importance=3.0, signs="both" if cfg.kind == "absolute" else "positive"
    )
    x = draw_features(law, cfg.n_features, n, 0, "test", 0).astype(dtype)
    params = module(cfg).init(jax.random.key(1), cfg)
    params = {name: w.astype(dtype) + 0.03 for name, w in params.items()}  # biases off zero
    return params, x, importance(law, cfg.n_features).astype(dtype)


def plain(params, x, weight, cfg):
    target = jnp.abs(x) if cfg.kind == "absolute" else x
    return jnp.mean(weight[:, None] * (target - module(cfg).apply(params, x, cfg)) ** 2)


@pytest.mark.parametrize("cfg", BOTH, ids=str)
def test_loss_is_the_weighted_mean_square_of_apply(cfg):
    params, x, weight = batch(cfg)
    np.testing.assert_allclose(module(cfg).loss(params, x, weight, cfg), plain(params, x, weight, cfg), rtol=1e-5)


@pytest.mark.parametrize("cfg", KINDS, ids=str)
def test_hand_written_gradient_equals_autodiff_in_float64(cfg):
    with jax.enable_x64(True):
        inputs = batch(cfg, dtype=jnp.float64)
        ours = jax.grad(lambda *inputs: 3 * superposition.loss(*inputs, cfg), argnums=(0, 1, 2))(*inputs)
        auto = jax.grad(lambda *inputs: 3 * plain(*inputs, cfg), argnums=(0, 1, 2))(*inputs)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), ours, auto)


def test_gradient_is_the_same_under_vmap():
    cfg = KINDS[0]
    params, x, weight = batch(cfg)
    many = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), params)
    grads = jax.vmap(jax.grad(superposition.loss), in_axes=(0, None, None, None))(many, x, weight, cfg)
    single = jax.grad(superposition.loss)(params, x, weight, cfg)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-7), grads, single)


def test_dedicated_dimensions_reconstruct_exactly():
    cfg = ToyModel("relu", 3, 3)
    params = {"W": jnp.eye(3), "b": jnp.zeros(3)}
    x = draw_features(Features(), 3, 100, 0, "test", 0)
    np.testing.assert_array_equal(superposition.apply(params, x, cfg), x)


def test_two_neurons_compute_the_absolute_value_exactly():
    cfg = ToyModel("absolute", 1, 2)
    params = {"W_in": jnp.array([[1.0, -1.0]]), "W_out": jnp.array([[1.0], [1.0]]), "b_out": jnp.zeros(1)}
    x = jnp.linspace(-1, 1, 21)[None]
    np.testing.assert_array_equal(computation.apply(params, x, cfg), jnp.abs(x))
    assert computation.loss(params, x, jnp.ones(1), cfg) == 0


@pytest.mark.parametrize("cfg", BOTH, ids=str)
def test_sites_are_recorded_and_edited(cfg):
    params, x, _ = batch(cfg)
    model = lambda params, x: module(cfg).apply(params, x, cfg)
    out, seen = record(model, {"hidden": ..., "pre": ..., "out": ...})(params, x)
    np.testing.assert_array_equal(out, seen["out"])
    assert seen["hidden"].shape == (cfg.n_hidden, x.shape[1])
    silent = edit(model)({"hidden": Edit("scale", jnp.zeros(()))}, params, x)
    bias = params["b_out" if cfg.kind == "absolute" else "b"][:, None]
    expected = jnp.broadcast_to(bias if cfg.kind == "linear" else jax.nn.relu(bias), x.shape)
    np.testing.assert_allclose(silent, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("cfg", "word"),
    [
        (ToyModel("rleu", 5, 2), "did you mean 'relu'"),
        (ToyModel("relu", 2, 5), "more than n_features"),
        (ToyModel("relu", 0, 0), "at least 1"),
    ],
)
def test_impossible_models_are_refused(cfg, word):
    with pytest.raises(InputError, match=word):
        cfg.check()
