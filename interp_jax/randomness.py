"""Randomness as a function of (seed, stream name, step): no key is ever stored, and a member's numbers never depend on
who else is in its population.

Two generators give the same kinds of draws. `threefry` (the default) is `jax.random` with its implementation named, since
under `vmap` the `rbg` ones give a member different numbers than it has alone. `counter` is a stateless integer hash of
(seed, stream, step, index), several times cheaper on a CPU; see `counter_bits`.
"""

import math
import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key, UInt32

GENERATORS = ("threefry", "counter")
GOLDEN = np.uint32(0x9E3779B9)  # 2^32 / golden ratio: consecutive counters land far apart
Scalar = int | np.integer | Integer[Array, ""]


def key(seed: Scalar, stream: str, step: Scalar = 0) -> Key[Array, ""]:
    """The threefry key of a named stream at a step."""
    root = jax.random.key(seed, impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(root, np.uint32(zlib.crc32(stream.encode()))), step)


def uniform(generator: str, seed: Scalar, stream: str, step: Scalar, shape: Sequence[int]) -> Float[Array, "..."]:
    """Float32 draws, uniform on [0, 1), of a named stream at a step."""
    if generator == "threefry":
        return jax.random.uniform(key(seed, stream, step), tuple(shape))
    if generator == "counter":
        return (counter_bits(seed, stream, step, shape) >> 8).astype(jnp.float32) * np.float32(2.0**-24)
    raise ValueError(f"unknown generator {generator!r}; known: {', '.join(GENERATORS)}")


def counter_bits(seed: Scalar, stream: str, step: Scalar, shape: Sequence[int]) -> UInt32[Array, "..."]:
    """32 random bits per element: a mix of the element's index with a word made of seed, stream and step.

    `mix` is a bijection of 32-bit words with low bias (the xor-shift-multiply form of MurmurHash3's finalizer, with the
    constants found by C. Wellons, "Prospecting for hash functions", 2018). Draws within a (seed, stream, step) are
    distinct words while there are fewer than 2^32 of them.
    """
    word = mix(jnp.asarray(seed).astype(jnp.uint32) ^ np.uint32(zlib.crc32(stream.encode())))
    word = mix(word + jnp.asarray(step).astype(jnp.uint32) * GOLDEN)
    index = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(tuple(shape))
    return mix(mix(index * GOLDEN + word) ^ word)


def mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A low-bias bijection of 32-bit words."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
