"""Parts: hypers are leaves, everything else is structure."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import nearest
from interp_jax.parts import hyper, is_part, part, stack


@part
class Inner:
    width: int = 3
    rate: float = hyper(0.5)


@part
class Outer:
    seed: int = hyper(0)
    name: str = "x"
    inner: Inner = Inner()


def test_leaves_are_the_hypers():
    assert jax.tree.leaves(Outer(seed=4, inner=Inner(rate=0.25))) == [4, 0.25]
    assert is_part(Inner) and is_part(Inner()) and not is_part(3)


def test_structure_is_the_static_fields():
    base = jax.tree.structure(Outer())
    assert base == jax.tree.structure(Outer(seed=1, inner=Inner(rate=9.0)))
    assert base != jax.tree.structure(Outer(name="y"))
    assert base != jax.tree.structure(Outer(inner=Inner(width=4)))


def test_parts_are_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Inner().width = 4
    assert hash(Outer()) == hash(Outer()) != hash(Outer(name="y"))


def test_stack_gives_arrays_of_the_fields_types():
    stacked = stack([Outer(seed=s, inner=Inner(rate=r)) for s, r in ((1, 0.1), (2, 0.2))])
    assert stacked.seed.dtype == np.int32 and stacked.inner.rate.dtype == np.float32
    np.testing.assert_array_equal(stacked.seed, [1, 2])
    assert stacked.name == "x" and stacked.inner.width == 3
    with pytest.raises(ValueError, match="equal static fields"):
        stack([Outer(), Outer(name="y")])


def test_sweeping_a_hyper_never_recompiles(compilations):
    @jax.jit
    def scaled(config):
        return jnp.ones(config.inner.width) * config.inner.rate

    with compilations() as names:
        for rate in (0.1, 0.2, 0.3):
            np.testing.assert_allclose(scaled(Outer(inner=Inner(rate=rate))), rate * np.ones(3), rtol=1e-6)
        assert names.count("scaled") == 1
        scaled(Outer(inner=Inner(width=4)))
        assert names.count("scaled") == 2


def test_nearest():
    assert nearest("n_hiden", ["n_hidden", "seed"]) == "did you mean 'n_hidden'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "there is none"
