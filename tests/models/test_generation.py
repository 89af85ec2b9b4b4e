"""Generation with a cache equals computing everything again for every token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.generation import generate, sample
from tests.models.test_transformer import FAMILY, random_model


@pytest.mark.parametrize("name", FAMILY)
def test_greedy_equals_no_cache(name):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    apply = jax.jit(transformer.apply, static_argnums=2)
    rows = np.zeros((3, 8), np.int32)
    rows[:, :3] = tokens[:, :3]
    for n in range(3, 8):  # no position sees a later one, so what fills the rest of the rows is of no account
        rows[:, n] = apply(params, rows, cfg)[:, n - 1].argmax(-1)
    got = jax.jit(generate, static_argnums=(2, 3))(params, tokens[:, :3], cfg, 5, jax.random.key(0))
    np.testing.assert_array_equal(got, rows[:, 3:])


def test_samples_follow_the_softmax():
    logits = jnp.log(jnp.array([0.1, 0.2, 0.7]))
    draws = sample(jnp.tile(logits, (40_000, 1)), jax.random.key(0), 1.0)
    np.testing.assert_allclose(np.bincount(draws) / 40_000, [0.1, 0.2, 0.7], atol=0.01)
    squared = np.array([0.01, 0.04, 0.49])
    draws = sample(jnp.tile(logits, (40_000, 1)), jax.random.key(0), 0.5)
    np.testing.assert_allclose(np.bincount(draws) / 40_000, squared / squared.sum(), atol=0.01)


def test_generation_can_be_recorded_and_edited():
    """One token is forced by an edit of the logits, at every step."""
    cfg = FAMILY["attention only"]
    params, tokens = random_model(cfg)
    run = lambda p: generate(params, p, cfg, 4, jax.random.key(0))
    steps = jnp.tile(1e6 * jax.nn.one_hot(5, cfg.d_vocab), (4, 1))
    forced = taps.edit(run)({"logits": taps.Edit("add", steps)}, tokens[:, :3])
    assert (forced == 5).all()
