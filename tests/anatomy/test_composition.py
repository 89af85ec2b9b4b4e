"""Composition scores against dense matrices, in the circuit built by hand, and at chance."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.anatomy.composition import composition_scores, random_composition
from interp_jax.models import transformer
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.transformer import TransformerConfig

scores_of = jax.jit(composition_scores, static_argnums=1)


def random_params(cfg, dtype):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), dtype), shapes)


def score(a, b):
    return np.linalg.norm(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


def test_scores_are_those_of_dense_matrices():
    cfg = TransformerConfig(n_layers=3, d_model=10, n_heads=4, n_kv_heads=2, d_head=3, d_vocab=5, biases="none")
    with jax.enable_x64(True):
        params = random_params(cfg, jnp.float64)
        got = jax.tree.map(np.asarray, scores_of(params, cfg))
    w = {name: np.asarray(x) for name, x in params["blocks"]["attn"].items()}
    ov = lambda layer, h: w["W_V"][layer, h // 2] @ w["W_O"][layer, h]
    qk = lambda layer, h: w["W_Q"][layer, h] @ w["W_K"][layer, h // 2].T
    for first, h, later, g in np.ndindex(3, 4, 3, 4):
        at, a = (first, h, later, g), ov(first, h)
        if later <= first:
            assert got.q[at] == got.k[at] == got.v[at] == 0
            continue
        np.testing.assert_allclose(got.q[at], score(a, qk(later, g)), rtol=1e-12)
        np.testing.assert_allclose(got.k[at], score(a, qk(later, g).T), rtol=1e-12)
        np.testing.assert_allclose(got.v[at], score(a, ov(later, g)), rtol=1e-12)


def test_in_the_induction_circuit_only_the_keys_of_1_0_compose_with_0_0():
    """0.0 writes an identity over 6 tokens, which the keys of 1.0 read: ‖I‖ / ‖I‖² = 1/√6. Heads that write nothing give 0."""
    params, cfg = induction_circuit(d_vocab=6, n_context=10)
    got = scores_of(params, cfg)
    expected = np.zeros((2, 2, 2, 2))
    expected[0, 0, 1, 0] = 6**-0.5
    np.testing.assert_allclose(got.k, expected, atol=1e-6)
    assert got.k[0, 0, 1, 0] > 2 * random_composition(cfg.d_model)
    assert np.abs(got.q).max() == 0 and np.abs(got.v).max() == 0


def test_chance_is_one_over_the_root_of_the_width():
    """Mean square over 16 × 16 pairs of random heads, for each of the three; its standard error is measured from the heads."""
    cfg = TransformerConfig(n_layers=2, d_model=24, n_heads=16, d_head=6, d_vocab=5, biases="none")
    got = scores_of(random_params(cfg, jnp.float32), cfg)
    for scores in got:
        squares = np.asarray(scores[0, :, 1]) ** 2
        error = np.hypot(*(squares.mean(axis).std(ddof=1) / 4 for axis in (0, 1)))
        assert error < 0.1 * random_composition(24) ** 2
        assert abs(squares.mean() - random_composition(24) ** 2) < 4 * error


def test_float32_scores_near_0_are_not_drowned():
    """Heads that write where the next reads nothing: the score is 0 within float error, not within its square root."""
    cfg = TransformerConfig(n_layers=2, d_model=24, n_heads=2, d_head=6, d_vocab=5, biases="none")
    params = random_params(cfg, jnp.float32)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0].astype(np.float32)
    attn = dict(params["blocks"]["attn"])
    writes, reads = np.split(rotation, 2, axis=1)
    attn["W_O"] = attn["W_O"] @ writes @ writes.T
    for name in ("W_Q", "W_K", "W_V"):
        attn[name] = jnp.einsum("de,lhef->lhdf", reads @ reads.T, attn[name])
    for scores in scores_of(params | {"blocks": params["blocks"] | {"attn": attn}}, cfg):
        assert np.abs(scores).max() < 1e-6
