"""The optimizer part: schedules at known points, the same steps as optax's own rules, sweeps without recompiling."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from interp_jax.errors import InputError
from interp_jax.parts import stack
from interp_jax.train.optimizer import Optimizer, clip_by_norm, gradient_transformation, rate

PARAMS = {"W": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}


def descend(transformation, steps=5):
    params, state = PARAMS, transformation.init(PARAMS)
    for _ in range(steps):
        grads = jax.tree.map(lambda p: p**3 + 0.1, params)
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Optimizer("adam", learning_rate=0.01), optax.adam(0.01)),
        (
            Optimizer("adamw", learning_rate=0.01, weight_decay=0.1),
            optax.adamw(0.01, weight_decay=0.1, mask={"W": True, "b": False}),
        ),
        (Optimizer("sgd", learning_rate=0.1), optax.sgd(0.1)),
        (Optimizer("momentum", learning_rate=0.1, beta1=0.8), optax.sgd(0.1, momentum=0.8)),
        (
            Optimizer("sgd", learning_rate=0.1, clip_norm=0.5),
            optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1)),
        ),
    ],
)
def test_rules_are_those_of_optax(ours, theirs):
    assert_same(descend(gradient_transformation(ours, 5)), descend(theirs))


@pytest.mark.parametrize(("norm", "factor"), [(None, 0.1), (jnp.float32(10), 0.05), (jnp.float32(0.1), 1.0)])
def test_a_gradient_is_clipped_by_its_norm_or_by_one_that_is_known(norm, factor):
    grads = {"W": jnp.array([3.0, -4.0]), "b": jnp.zeros(1)}
    clipped, _ = clip_by_norm(0.5).update(grads, optax.EmptyState(), norm=norm)
    assert_same(clipped, jax.tree.map(lambda g: factor * g, grads))


def test_a_gradient_of_zeros_stays():
    assert_same(clip_by_norm(0.5).update({"W": jnp.zeros(3)}, optax.EmptyState())[0], {"W": jnp.zeros(3)})


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_schedule_at_known_points(decay):
    optimizer = Optimizer(decay=decay, learning_rate=2.0, warmup_steps=10, final_rate=0.1)
    at = [float(rate(optimizer, 110, jnp.int32(t))) for t in (0, 4, 9, 10, 60, 110)]
    end = {"constant": (2.0, 2.0), "linear": (1.1, 0.2), "cosine": (1.1, 0.2)}[decay]
    np.testing.assert_allclose(at, [0.2, 1.0, 2.0, 2.0, *end], rtol=1e-6)


def test_the_rate_steps_with_the_schedule():
    optimizer = Optimizer("sgd", decay="linear", learning_rate=1.0)
    expected = 1.0 - (1.0 + 0.75 + 0.5 + 0.25) * 0.1
    transformation = gradient_transformation(optimizer, 4)
    params, state = {"W": jnp.array(1.0)}, transformation.init({"W": jnp.array(1.0)})
    for _ in range(6):  # the last two have rate 0
        updates, state = transformation.update({"W": jnp.array(0.1)}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["W"], expected, rtol=1e-6)


def test_hypers_never_recompile_and_batch(compilations):
    optimizers = [Optimizer(learning_rate=lr, beta1=b, warmup_steps=w) for lr, b, w in ((0.1, 0.9, 0), (0.2, 0.5, 3))]

    def five_steps(optimizer):
        return descend(gradient_transformation(optimizer, 5))

    with compilations() as names:
        single = [jax.jit(five_steps)(optimizer) for optimizer in optimizers]
    assert names.count("five_steps") == 1
    batched = jax.vmap(five_steps)(stack(optimizers))
    for i, one in enumerate(single):
        assert_same(jax.tree.map(lambda leaf, i=i: leaf[i], batched), one)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": "adm"}, "did you mean 'adam"),
        ({"decay": "cosin"}, "did you mean 'cosine'"),
        ({"learning_rate": -1.0}, "negative"),
        ({"weight_decay": 0.1}, "use optimizer.name='adamw'"),
        ({"beta2": 1.0}, "beta"),
    ],
)
def test_impossible_optimizers_are_refused(fields, word):
    with pytest.raises(InputError, match=word):
        Optimizer(**fields).check()
