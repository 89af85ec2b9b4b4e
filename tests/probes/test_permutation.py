"""The permutation test: p by hand, and what is planted is called."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.probes import mass_mean
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.permutation import permutation_p
from interp_jax.probes.splits import cross_validation


@functools.cache
def probed(seeds, n=60):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.normal(size=(2, n, 3))
    x[1] += 3 * y[:, None]
    given = Examples(jnp.float32(x), y[None])
    splits = cross_validation(n, 3, seeds=seeds)
    return everywhere(mass_mean.PROBE, given, splits, mass_mean.Hypers(), axes={"layer": range(2)})


def test_p_is_the_rank_among_orders_and_what_is_there_is_called():
    found = probed(19)
    p = permutation_p(found, "accuracy")
    true, orders = found.measure("accuracy")[0, 0, 0, 0], found.measure("accuracy", "shuffled")[0, :, 0, 0]
    assert p.shape == (2, 1, 1) and p[0, 0, 0] == (1 + sum(a >= true for a in orders)) / 20
    assert p[1, 0, 0] == 0.05 and p[0, 0, 0] > 0.05


def test_too_few_orders_are_refused():
    few = dataclasses.replace(probed(19), axes=probed(19).axes | {"seed": tuple(range(4))})
    with pytest.raises(InputError, match="no p below 0.2"):
        permutation_p(few, "accuracy")
