"""Cross-layer transcoders: features, loss and gradient of sums written out layer by layer; nothing writes backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch, Situation
from interp_jax.dictionaries.kinds.cross_layer import lengths
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.errors import InputError
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import ALIVE, Span

L, F, D, Y, B = 3, 4, 5, 2, 6
SHAPE = {"kind": "cross_layer", "pieces": L, "d_in": L * D, "d_out": L * Y, "n_features": L * F, "sparsity": 0.3}


def here():
    return Situation(jnp.asarray(1.0), jnp.zeros(L * F, bool))


def made(**changes):
    cfg = Dictionary(**(SHAPE | changes))
    cfg.check()
    rng = np.random.default_rng(0)
    params = {
        name: jnp.asarray(rng.normal(size=x.shape)) for name, x in dictionary.init(jax.random.key(0), cfg).items()
    }
    batch = Batch(jnp.asarray(rng.normal(size=(B, L * D))), jnp.asarray(rng.normal(size=(B, L * Y))))
    return params, cfg, batch


def oracle(params, x):
    """Features [B L F] and what is said [B L Y], sum by sum."""
    p, x = jax.tree.map(np.asarray, params), np.asarray(x).reshape(B, L, D)
    threshold = np.exp(p["log_threshold"]).reshape(L, F)
    f, said = np.zeros((B, L, F)), np.tile(p["b_dec"], (B, 1, 1))
    for b in range(B):
        for layer in range(L):
            for i in range(F):
                z = p["W_enc"][layer, i] @ x[b, layer] + p["b_enc"][layer, i]
                f[b, layer, i] = z if z > threshold[layer, i] else 0
                for m in range(layer, L):
                    said[b, m] += f[b, layer, i] * p[f"W_dec_{layer}"][i, m - layer]
    return f, said


@pytest.mark.parametrize("penalty", ["step", "tanh", "target"])
def test_features_and_loss_of_the_oracle(penalty):
    with jax.enable_x64(True):
        params, cfg, batch = made(penalty=penalty, target=4.0)
        f, said = oracle(params, batch.x)
        got, features = dictionary.reconstruct(params, batch.x, cfg)
        np.testing.assert_allclose(features, f.reshape(B, -1), atol=1e-12)
        np.testing.assert_allclose(got, said.reshape(B, -1), atol=1e-12)
        rows = [np.linalg.norm(params[f"W_dec_{layer}"].reshape(F, -1), axis=1) for layer in range(L)]
        np.testing.assert_allclose(lengths(params, cfg), np.concatenate(rows), rtol=1e-12)
        l0 = (f != 0).sum((1, 2)).mean()
        tanh = np.tanh(cfg.tanh_scale * f.reshape(B, -1) * np.concatenate(rows)).sum(1).mean()
        penalised = {"step": l0, "tanh": tanh, "target": (l0 / 4 - 1) ** 2}[penalty]
        error = np.square(said.reshape(B, -1) - batch.y).sum(1).mean()
        judged = dictionary.loss(params, batch, cfg, here())
        np.testing.assert_allclose(judged.loss, error + 0.3 * penalised, rtol=1e-12)
        np.testing.assert_array_equal(judged.fired, (f != 0).sum(0).ravel())


def test_gradients_are_differences_of_the_loss():
    with jax.enable_x64(True):
        params, cfg, batch = made(penalty="tanh")
        value = jax.jit(lambda p: dictionary.loss(p, batch, cfg, here()).loss)
        grads, rng, h = jax.grad(value)(params), np.random.default_rng(1), 1e-6
        for name in params.keys() - {"log_threshold"}:
            way = rng.normal(size=params[name].shape)
            up, down = (value(params | {name: params[name] + sign * h * way}) for sign in (1, -1))
            np.testing.assert_allclose((grads[name] * way).sum(), (up - down) / (2 * h), rtol=1e-5, atol=1e-7)


def test_no_layer_is_told_of_later_ones():
    params, cfg, batch = made()
    params |= {"log_threshold": jnp.full(L * F, -5.0)}
    first = jax.jacobian(lambda x: dictionary.reconstruct(params, x[None], cfg)[0][0])(batch.x[0])
    by_layer = np.asarray(first).reshape(L, Y, L, D)
    for said in range(L):
        assert not by_layer[said, :, said + 1 :].any() and by_layer[said, :, said].any()


@pytest.mark.slow
def test_a_feature_that_acts_on_two_layers_is_found_once():
    """Two sparse variables are read at layer 0: one is written to layers 0 and 2, one to layer 1 alone."""

    @part
    class Config:
        seed: int = hyper(0)
        dictionary: Dictionary = Dictionary(
            **(SHAPE | {"penalty": "tanh", "n_features": L * 2, "first_norm": 1.0, "bandwidth": 0.5})
        )
        optimizer: Optimizer = Optimizer(learning_rate=3e-3)

    rng = np.random.default_rng(3)
    read = np.linalg.qr(rng.normal(size=(D, D)))[0][:2].astype(np.float32)
    written = rng.normal(size=(2, L, Y)).astype(np.float32) * np.array([[1, 0, 1], [0, 1, 0]], np.float32)[:, :, None]

    def draw(hypers, shared, seed, step):
        chance, size = jax.random.uniform(jax.random.fold_in(jax.random.key(1), step), (2, 128, 2))
        c = jnp.where(chance < 0.1, 0.5 + size, 0.0)
        x = jnp.zeros((128, L, D)).at[:, 0].set(c @ read)
        return Batch(x.reshape(128, -1), jnp.einsum("bc,clo->blo", c, written).reshape(128, -1))

    config = Config()
    run = dictionary_run(draw, lambda hypers: (hypers.dictionary, hypers.optimizer, 4_000))
    span = Span(np.int32(0), np.int32(4_000))
    state, _ = jax.jit(lambda c: run.advance(run.init(c.seed, c), c, span, ()))(config)
    assert state.diverged_at == ALIVE
    batch = draw(config, (), 0, jnp.int32(9_999))
    said, f = dictionary.reconstruct(state.params, batch.x, config.dictionary)
    left = np.square(said - batch.y).sum() / np.square(batch.y).sum()
    assert left < 0.05, left
    active = np.asarray((f > 0).mean(0))
    assert (active[2:] < 0.01).all(), "nothing is read where nothing is"
    for row in np.asarray(state.params["W_dec_0"]).reshape(2, -1):
        cosine = written.reshape(2, -1) @ row / np.linalg.norm(written.reshape(2, -1), axis=1) / np.linalg.norm(row)
        assert cosine.max() > 0.97


def test_sizes_that_layers_do_not_divide_are_refused():
    for change in ({"d_in": 16}, {"n_features": 13}, {"d_out": 0}, {"pieces": 0}):
        with pytest.raises(InputError, match="layers of a cross-layer transcoder must divide"):
            Dictionary(**(SHAPE | change)).check()
    with pytest.raises(InputError, match="a cross-layer transcoder has neither"):
        Dictionary(**SHAPE, skip=True).check()
