"""What the suite promises its tests: devices, and a count of compilations that the cache on disk does not change."""

import jax
import jax.numpy as jnp
import numpy as np


def test_four_cpu_devices():
    assert [device.platform for device in jax.devices()] == ["cpu"] * 4


def test_a_program_is_counted_once_per_shape(compilations):
    x, y = np.ones(3, np.float32), np.ones(4, np.float32)

    @jax.jit
    def squared(x):
        return x * x

    with compilations() as names:
        squared(x), squared(x), squared(y), squared(x)
    assert names == ["squared", "squared"]
    with compilations() as names:
        squared(x), squared(y)
    assert names == []


def test_a_program_from_the_cache_on_disk_is_counted(compilations):
    x = np.ones(5, np.float32)
    counts = []
    for _ in range(2):
        with compilations() as names:
            jax.jit(lambda x: jnp.sin(x) + 1)(x)
        counts.append(names)
        jax.clear_caches()
    assert counts == [["<lambda>"], ["<lambda>"]]


def test_counts_nest_and_end(compilations):
    with compilations() as outer:
        with compilations() as inner:
            jax.jit(lambda x: x + 17)(np.float32(1))
        jax.jit(lambda x: x + 18)(np.float32(1))
    jax.jit(lambda x: x + 19)(np.float32(1))
    assert (len(inner), len(outer)) == (1, 2)
