"""A run: the same steps however they are cut into spans, against plain optax, and frozen where it stops being finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from interp_jax import randomness
from interp_jax.parts import hyper, part
from interp_jax.train.run import ALIVE, Moved, RunState, Span, all_finite, stepwise, training_run


@part
class Config:
    seed: int = hyper(0)
    rate: float = hyper(0.1)
    width: int = 4


def init_params(seed, hypers):
    return {"w": jax.random.normal(randomness.key(seed, "init"), (hypers.width,))}


def loss(params, hypers, seed, step, shared):
    x = jax.random.normal(randomness.key(seed, "data", step), (16, hypers.width))
    return ((x @ params["w"] - shared) ** 2).mean(), {"norm": jnp.linalg.norm(params["w"])}


def optimizer(hypers):
    return optax.adam(hypers.rate)


RUN = training_run(init_params, loss, optimizer)
advance = jax.jit(lambda state, config, span: RUN.advance(state, config, span, 1.0))


def span(first, stop):
    return Span(np.int32(first), np.int32(stop))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_equals_a_plain_loop():
    config = Config(seed=3)
    params = init_params(3, config)
    opt_state = optimizer(config).init(params)
    values = []
    for t in range(7):
        (value, _), grads = jax.value_and_grad(loss, has_aux=True)(params, config, 3, t, 1.0)
        updates, opt_state = optimizer(config).update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        values.append(value)
    state, metrics = advance(RUN.init(3, config), config, span(0, 7))
    np.testing.assert_allclose(state.params["w"], params["w"], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(values), rtol=1e-5)
    assert metrics.keys() == {"loss", "norm"}


def test_spans_compose_bit_for_bit():
    config = Config(seed=1)
    whole, _ = advance(RUN.init(1, config), config, span(0, 10))
    part_way, first = advance(RUN.init(1, config), config, span(0, 4))
    cut, second = advance(part_way, config, span(4, 10))
    same(whole, cut)
    assert first["loss"] != second["loss"]


def test_one_program_serves_all_spans_and_hypers(compilations):
    with compilations() as names:
        fresh = jax.jit(lambda state, config, span: RUN.advance(state, config, span, 2.0))
        for rate, stop in ((0.1, 3), (0.2, 5), (0.3, 50)):
            config = Config(rate=rate)
            fresh(RUN.init(0, config), config, span(0, stop))
    assert names.count("<lambda>") == 1


def test_an_empty_span_changes_nothing_and_measures_nothing():
    config = Config()
    state = RUN.init(0, config)
    after, metrics = advance(state, config, span(5, 5))
    same(after, state)
    assert np.isnan(metrics["loss"])


@pytest.mark.parametrize("where", ["loss", "gradient", "update"])
def test_a_diverged_member_keeps_its_last_finite_state(where):
    """NaN is planted at step 3: in the loss, only in its gradient, or only in the optimizer's update."""

    def planted(params, hypers, seed, step, shared):
        value, metrics = loss(params, hypers, seed, step, shared)
        bad = jnp.where(step == 3, jnp.nan, 0.0)
        if where == "loss":
            return value + bad, metrics
        if where == "gradient":
            return value + jnp.sqrt(jnp.where(step == 3, 0.0, 1.0) * params["w"] ** 2).sum(), metrics  # 0/0 at step 3
        return value, metrics

    def sometimes(hypers):
        adam = optimizer(hypers)

        def update(grads, state, params=None):
            updates, state = adam.update(grads, state, params)
            bad = jnp.where((state[0].count == 4) & (where == "update"), jnp.inf, 0.0)
            return jax.tree.map(lambda u: u + bad, updates), state

        return optax.GradientTransformation(adam.init, update)

    run = training_run(init_params, planted, sometimes)
    config = Config()
    before, _ = run.advance(run.init(0, config), config, span(0, 3), 1.0)
    after, metrics = run.advance(run.init(0, config), config, span(0, 20), 1.0)
    assert after.diverged_at == 3 and before.diverged_at == ALIVE
    same(after.params, before.params)
    same(after.opt_state, before.opt_state)
    assert np.isfinite(metrics["loss"])
    later, nothing = run.advance(after, config, span(20, 25), 1.0)
    same(later, after)
    assert np.isnan(nothing["loss"])


@pytest.mark.parametrize("members", [1, 3])
def test_in_a_branch_a_step_is_the_same(members):
    def step(state, hypers, t, shared):
        moved = lambda: state.replace(params=jnp.sqrt(state.params) + hypers)
        return Moved(moved, {"w": state.params}, (t != 3) | (hypers < 0.5))

    def init(seed, hypers):
        return RunState(jnp.int32(seed), hypers * 10, (), jnp.int32(ALIVE))

    hypers = jnp.array([0.25, 0.75, 0.5])[:members]
    found = []
    for branch in (False, True):
        run = stepwise(init, step, branch)
        taken = jax.vmap(lambda h, run=run: run.advance(run.init(7, h), h, span(0, 6), ()))(hypers)
        found.append(taken)
    same(*found)
    assert list(found[0][0].diverged_at) == [ALIVE, 3, 3][:members]


def test_all_finite():
    assert all_finite({"a": jnp.ones(3), "n": jnp.arange(3)})
    assert not all_finite({"a": jnp.ones(3), "b": jnp.array([1.0, jnp.inf])})
    assert all_finite({})
