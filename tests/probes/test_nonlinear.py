"""Probes with a curve in them: an exclusive or that lines cannot read; slopes that are left, in NumPy; positions found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.probes import attention_pooled, bilinear, descent, mlp, scale

RNG = np.random.default_rng(0)
X = (3 + 2 * RNG.normal(size=(600, 8))).astype(np.float32)
XOR = ((X[:, 0] > 3) ^ (X[:, 1] > 3)).astype(np.float32)
PLAIN = (X[:, 2] > 3).astype(np.float32)
Y = np.stack([XOR, PLAIN], 1)
W = (np.arange(600) < 400).astype(np.float32)
GIVEN = tuple(map(jnp.asarray, (X, Y, W)))


@pytest.mark.parametrize("kind", [mlp, bilinear])
def test_an_exclusive_or_is_read_and_members_report_whether_they_converged(kind):
    fit = jax.jit(jax.vmap(lambda penalty: kind.fit(jax.random.key(1), *GIVEN, kind.Hypers(penalty), most_steps=150)))
    got = fit(jnp.array([1.0, 30.0]))
    said = np.asarray(jax.vmap(lambda p: kind.predict(p, GIVEN[0]))(got))
    right = ((said > 0) == (Y > 0))[:, 400:].mean(1)
    assert (right[0] > 0.9).all(), right
    assert (got.convergence.converged == (got.convergence.gradient <= 1e-5)).all() and (
        got.convergence.steps <= 150
    ).all()
    assert got.convergence.converged[1] and got.convergence.steps[1] < 150


def test_mlps_objective_has_no_slope_where_it_ended_computed_by_differences_in_float64():
    with jax.enable_x64(True):
        given = [jnp.asarray(a, jnp.float64) for a in (X, Y[:, 1], W)]
        got = mlp.fit(jax.random.key(0), *given, mlp.Hypers(3.0), width=3, tolerance=1e-7, most_steps=2_000)
        parts = [np.asarray(a) for a in got[:4]]
        x, w = np.asarray(X, float), W
        mean = w @ x / w.sum()
        rows = (x - mean) / np.sqrt((w @ (x - mean) ** 2 / w.sum()).mean())

        def gelu(a):  # the tanh form, which jax.nn.gelu has by default
            return 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))

        def loss(W_in, b_in, W_out, b_out):
            z = gelu(rows @ W_in + b_in) @ W_out + b_out
            mean = w @ (np.logaddexp(0, z) - Y[:, 1] * z) / w.sum()
            return mean + 1.5 * ((W_in**2).sum() + (W_out**2).sum()) / w.sum()

        assert got.convergence.converged
        for i, part in enumerate(parts):
            for index in np.ndindex(part.shape):
                ends = []
                for step in (1e-5, -1e-5):
                    moved = [p.copy() for p in parts]
                    moved[i][index] += step
                    ends.append(loss(*moved))
                assert abs(ends[0] - ends[1]) / 2e-5 < 2e-6
        at = gelu(rows @ parts[0] + parts[1]) @ parts[2] + parts[3]
        np.testing.assert_allclose(mlp.predict(got, given[0]), at, atol=1e-9)


def test_bilinear_is_a_quadratic_form():
    got = bilinear.fit(
        jax.random.key(0), GIVEN[0], GIVEN[1][:, 0], GIVEN[2], bilinear.Hypers(1.0), rank=2, most_steps=60
    )
    first, second, weights = (np.asarray(a, float) for a in got[:3])
    rows = (X - np.asarray(got.scale.mean)) / float(got.scale.size)
    form = np.einsum("dr,er->de", first, second)
    want = np.einsum("bd,de,be->b", rows, form, rows) + rows @ weights + float(got.bias)
    np.testing.assert_allclose(bilinear.predict(got, GIVEN[0]), want, rtol=1e-4, atol=1e-4)
    strongest = np.unravel_index(np.abs(form + form.T).argmax(), form.shape)
    assert set(strongest) == {0, 1}


def test_attention_finds_the_position_and_absent_positions_have_none():
    n, P, D = 500, 6, 10
    x = RNG.normal(size=(n, P, D))
    where, y = RNG.integers(0, 4, n), RNG.random(n) < 0.5
    x[:, :, 1] = 2 * np.sign(x[:, :, 1])
    x[np.arange(n), where, 0] += 6  # this is what marks the position
    x[np.arange(n), where, 1] = 2 * np.where(y, 1, -1)
    x[:, 4:] = np.where(np.arange(n)[:, None, None] % 2, 0, x[:, 4:])  # every other text is shorter
    x, y, w = (jnp.float32(a) for a in (x, y, np.arange(n) < 350))
    got = jax.jit(lambda x: attention_pooled.fit(jax.random.key(0), x, y, w, attention_pooled.Hypers(1.0)))(x)
    said = attention_pooled.predict(got, x)
    assert ((said > 0) == (y > 0))[350:].mean() > 0.95 and got.convergence.converged
    there = np.any(np.asarray(x) != 0, axis=-1)
    a = attention_pooled.attention(got.queries, scale.scaled(got.scale, x), jnp.asarray(there))[..., 0]
    np.testing.assert_allclose(a.sum(1), 1, atol=1e-5)
    assert (np.asarray(a)[~there] == 0).all() and (np.asarray(a).argmax(1) == where).mean() > 0.95
    cut = x[1:2, :4]  # positions that are not there might as well not be given
    np.testing.assert_allclose(attention_pooled.predict(got, cut), said[1:2], atol=1e-5)


def test_attention_begins_along_the_covariance_of_texts_means_and_labels():
    """Of positions that are there and texts that count, in NumPy: where a start at random has been seen to miss what tells."""
    rows, there = RNG.normal(size=(30, 4, 5)), RNG.random((30, 4)) < 0.7
    there[:, 0] = True
    y, w = RNG.random((30, 2)), (np.arange(30) < 20) * RNG.uniform(1, 2, 30)
    mean = np.array([row[at].mean(0) for row, at in zip(rows, there, strict=True)])
    found = np.cov(np.c_[mean, y].T, aweights=w)[:5, 5:]
    got = attention_pooled.along(*map(jnp.float32, (rows, there, y, w)), 3)
    assert got.shape == (5, 3, 2)
    np.testing.assert_allclose(got.sum(1), found / np.linalg.norm(found, axis=0), atol=1e-5)


def test_minimise_finds_the_minimum_of_a_quadratic_and_says_where_it_was_stopped():
    A = np.diag(np.logspace(0, 3, 6)).astype(np.float32)
    target = np.arange(6, dtype=np.float32)
    loss = lambda v: 0.5 * (v - target) @ A @ (v - target)
    run = jax.jit(lambda tolerance: descent.minimise(loss, jnp.zeros(6), tolerance, 40))
    found, left = run(1e-4)
    np.testing.assert_allclose(found, target, atol=1e-4)
    assert left.converged and left.steps < 40 and left.gradient <= 1e-4
    _, stopped = run(-1.0)
    assert not stopped.converged and stopped.steps <= 40 and stopped.gradient > -1
