"""Measures by their definitions: pairs counted, classes one by one."""

import jax.numpy as jnp
import numpy as np

from interp_jax.probes import targets

RNG = np.random.default_rng(0)
Z = np.round(RNG.normal(size=50), 1)  # with ties
Y, W = (RNG.random(50) < 0.4).astype(float), RNG.integers(0, 4, 50).astype(float)
f = jnp.float32


def test_binary():
    got = targets.binary(f(Z), f(Y), f(W))
    z, y = np.repeat(Z, W.astype(int)), np.repeat(Y, W.astype(int))
    right = (z > 0) == (y == 1)
    above = z[y == 1][:, None] - z[y == 0]
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(got.accuracy, right.mean(), rtol=1e-5)
    np.testing.assert_allclose(got.balanced, (right[y == 1].mean() + right[y == 0].mean()) / 2, rtol=1e-5)
    np.testing.assert_allclose(got.auroc, (above > 0).mean() + (above == 0).mean() / 2, rtol=1e-5)
    np.testing.assert_allclose(got.bits, -np.log2(np.where(y == 1, p, 1 - p)).mean(), rtol=1e-5)


def test_an_even_coin_costs_a_bit_and_one_class_has_no_rank():
    got = targets.binary(f(np.zeros(50)), f(Y), f(W))
    np.testing.assert_allclose([got.bits, got.auroc], [1, 0.5], rtol=1e-6)
    one = targets.binary(f(Z), f(np.ones(50)), f(W))
    assert np.isnan(one.auroc) and np.isnan(one.balanced) and np.isfinite(one.accuracy)


def test_classes():
    z, c = RNG.normal(size=(50, 3)), RNG.integers(0, 3, 50)
    got = targets.classes(f(z), f(np.eye(3)[c]), f(W))
    z, c = np.repeat(z, W.astype(int), 0), np.repeat(c, W.astype(int))
    right = z.argmax(1) == c
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    want = (
        right.mean(),
        np.mean([right[c == k].mean() for k in range(3)]),
        -logp[np.arange(len(c)), c].mean() / np.log(2),
    )
    np.testing.assert_allclose(got, want, rtol=1e-5)
    equal = targets.classes(f(np.zeros((50, 4))), f(np.eye(4)[c[:50]]), f(W))
    np.testing.assert_allclose(equal.bits, 2, rtol=1e-6)


def test_numbers_and_labels_are_means_over_columns():
    z, y = RNG.normal(size=(50, 2)), RNG.normal(size=(50, 2))
    got = targets.real(f(z), f(y), f(W))
    zs, ys = np.repeat(z, W.astype(int), 0), np.repeat(y, W.astype(int), 0)
    error, spread = np.square(ys - zs).mean(0), ys.var(0)
    np.testing.assert_allclose(got, (np.mean(1 - error / spread), error.mean()), rtol=1e-5)
    both = targets.labels(f(np.stack([Z, -Z], 1)), f(np.stack([Y, Y], 1)), f(W))
    np.testing.assert_allclose(both.auroc, 0.5, rtol=1e-5)


def test_what_is_said_of_each_example_has_the_measures_for_its_mean():
    z, c = RNG.normal(size=(50, 3)), np.eye(3)[RNG.integers(0, 3, 50)]
    cases = [
        (targets.BINARY, Z, Y),
        (targets.CLASSES, z, c),
        (targets.LABELS, z, c),
        (targets.REAL, Z, Y),
        (targets.REAL, z, c),
    ]
    for target, z, y in cases:
        measured, each = target.measure(f(z), f(y), f(W)), target.each(f(z), f(y))
        for name in each._fields:
            want = (W * getattr(each, name)).sum() / W.sum()
            np.testing.assert_allclose(getattr(measured, name), want, rtol=1e-5)
