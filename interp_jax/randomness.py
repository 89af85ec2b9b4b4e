"""Randomness as a function of (seed, stream name, step): no key is ever stored, and a member's numbers never depend on
who else is in its population.

Two generators give the same kinds of draws. `threefry` (the default) is `jax.random` with its implementation named, since
under `vmap` the `rbg` ones give a member different numbers than it has alone. `counter` is a stateless integer hash of
(seed, stream, step, index), several times cheaper on a CPU; see `counter_bits`.

`threefry_bits` writes the cipher's rounds out, where `jax.random` loops over them on a CPU: the same numbers, 3.5 times faster.
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
EVEN = np.uint32(0x85EBCA6A)  # any even number that has no simple ratio to GOLDEN
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # of Threefry-2x32, for even and odd groups of rounds
PARITY = np.uint32(0x1BD11BDA)  # of Threefry's key schedule
Scalar = int | np.integer | Integer[Array, ""]


def key(seed: Scalar, stream: str, step: Scalar = 0) -> Key[Array, ""]:
    """The threefry key of a named stream at a step."""
    root = jax.random.key(seed, impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(root, np.uint32(zlib.crc32(stream.encode()))), step)


def uniform(generator: str, seed: Scalar, stream: str, step: Scalar, shape: Sequence[int]) -> Float[Array, "..."]:
    """Float32 draws, uniform on [0, 1), of a named stream at a step; `threefry` gives those of `jax.random.uniform`."""
    if generator == "threefry":
        one_to_two = (threefry_bits(key(seed, stream, step), shape) >> 9) | np.uint32(0x3F800000)
        return jax.lax.bitcast_convert_type(one_to_two, jnp.float32) - np.float32(1.0)
    if generator == "counter":
        return (counter_bits(seed, stream, step, shape) >> 8).astype(jnp.float32) * np.float32(2.0**-24)
    raise ValueError(f"unknown generator {generator!r}; known: {', '.join(GENERATORS)}")


def threefry_bits(key: Key[Array, ""], shape: Sequence[int]) -> UInt32[Array, "..."]:
    """32 random bits per element, those of `jax.random.bits`: Threefry-2x32 of the element's index (Salmon et al. 2011)."""
    first, second = jax.random.key_data(key)
    schedule = (first, second, first ^ second ^ PARITY)
    a, b = first, _index(shape) + second  # the index has 64 bits, of which the upper 32 are zero
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            a = a + b
            b = a ^ ((b << np.uint32(rotation)) | (b >> np.uint32(32 - rotation)))
        a = a + schedule[(group + 1) % 3]
        b = b + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return a ^ b


def counter_bits(seed: Scalar, stream: str, step: Scalar, shape: Sequence[int]) -> UInt32[Array, "..."]:
    """32 random bits per element: a low-bias mix of the element's index under two words made of seed, stream and step.

    Within a stream, no two (seed, step) share both words. Within a (seed, stream, step), all elements are distinct. The mix
    is the xor-shift-multiply form of MurmurHash3's finalizer, with the constants found by C. Wellons ("Prospecting for hash
    functions", 2018); the second word enters between its two rounds, so that no stream is a shifted copy of another.
    """
    origin = mix(jnp.asarray(seed).astype(jnp.uint32) ^ np.uint32(zlib.crc32(stream.encode())))
    step = jnp.asarray(step).astype(jnp.uint32)
    before, between = mix(origin + step * GOLDEN), mix(origin + step * EVEN)  # invertible, since GOLDEN - EVEN is odd
    return mix(_index(shape) * GOLDEN ^ before, between)


def _index(shape: Sequence[int]) -> UInt32[Array, "..."]:
    """The position of each element in row-major order."""
    if math.prod(shape) >= 2**32:
        raise ValueError(f"more than 2^32 draws at once: {tuple(shape)}")
    return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(tuple(shape))


def mix(x: UInt32[Array, "..."], between: UInt32[Array, ""] | int = 0) -> UInt32[Array, "..."]:
    """A low-bias bijection of 32-bit words, one for each word `between`."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D) ^ between
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
