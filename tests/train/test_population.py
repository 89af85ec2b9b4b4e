"""A population is its members: on any number of devices, in any batch, beside anyone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.parts import stack
from interp_jax.train.population import pad_members, place, population
from tests.train.test_run import RUN, Config, advance, span

CONFIGS = [Config(seed=s, rate=r) for s in range(4) for r in (0.01, 0.1)]


def grow(config, shared):
    state, metrics = RUN.advance(RUN.init(config.seed, config), config, span(0, 9), shared)
    return state.params["w"], metrics["loss"]


def grown(configs, batch=1, devices=1):
    members = place(stack(configs), jax.devices()[:devices])
    return population(grow, batch, jax.devices()[:devices])(members, 1.0)


def test_members_equal_their_single_runs_bit_for_bit():
    weights, losses = grown(CONFIGS)
    for i, config in enumerate(CONFIGS):
        state, metrics = advance(RUN.init(config.seed, config), config, span(0, 9))
        np.testing.assert_array_equal(weights[i], state.params["w"])
        np.testing.assert_array_equal(losses[i], metrics["loss"])


def test_a_member_does_not_depend_on_who_else_is_there():
    weights, _ = grown(CONFIGS)
    np.testing.assert_array_equal(grown(CONFIGS[3:5])[0], weights[3:5])
    np.testing.assert_array_equal(grown(CONFIGS[::-1])[0], weights[::-1])


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_do_not_matter(devices):
    for a, b in zip(grown(CONFIGS, devices=devices), grown(CONFIGS), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_batched_and_single_runs_agree_within_float_error(batch):
    """Sums may be ordered differently under `vmap`: 1e-5 relative after nine Adam steps is what is promised."""
    for a, b in zip(grown(CONFIGS, batch), grown(CONFIGS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_members_never_talk(batch):
    devices = jax.devices()[:4]
    lifted = population(grow, batch, devices)
    text = lifted.lower(place(stack(CONFIGS), devices), 1.0).compile().as_text()
    assert not re.findall(r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter", text)
    assert len(lifted(place(stack(CONFIGS), devices), 1.0)[0].sharding.device_set) == 4


def test_shared_arrays_are_seen_by_all():
    doubled = population(lambda m, shared: m * shared.sum(), devices=jax.devices()[:2])(jnp.arange(4.0), jnp.ones(3))
    np.testing.assert_array_equal(doubled, 3 * np.arange(4.0))


def test_donated_members_are_gone():
    members = place(jnp.arange(4.0), jax.devices()[:1])
    result = population(lambda m, _: m + 1, devices=jax.devices()[:1], donate=True)(members, ())
    np.testing.assert_array_equal(result, np.arange(1.0, 5.0))
    assert members.is_deleted()


def test_padding_repeats_the_last_member():
    padded = pad_members({"a": np.arange(5), "b": np.ones((5, 2))}, 4)
    np.testing.assert_array_equal(padded["a"], [0, 1, 2, 3, 4, 4, 4, 4])
    assert padded["b"].shape == (8, 2)
    assert pad_members(np.arange(4), 2).shape == (4,)
