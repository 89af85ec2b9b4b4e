"""What a large matrix product reaches here: the rate that a benchmark's floor is reckoned with."""

import time
from typing import Any

import jax
import jax.numpy as jnp


def product_rate(dtype: Any, n: int, repeats: int = 5) -> float:
    """Floating operations per second of the best of some square products of size `n`, on JAX's default device."""
    a = jnp.ones((n, n), dtype)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(product(a))
        best = min(best, time.perf_counter() - started)
    return 2.0 * n**3 / best
