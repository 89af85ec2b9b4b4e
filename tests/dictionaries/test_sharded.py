"""A dictionary over a mesh takes the steps that it takes on one device, each device having its part only."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.dictionaries.sharded import dictionary_mesh, placed, sharded_advance
from interp_jax.dictionaries.top_k import top_k
from interp_jax.errors import InputError
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import Span

D, F, B = 16, 64, 32


@part
class Config:
    seed: int = hyper(0)
    dictionary: Dictionary = Dictionary(d_in=D, n_features=F, most=4, k=3, products="dense", dead_after=100)
    optimizer: Optimizer = Optimizer(learning_rate=1e-2, clip_norm=1.0)


def draw(hypers, shared, seed, t):
    x = jax.lax.dynamic_index_in_dim(shared, t, keepdims=False)
    return Batch(x, x)


RUN = dictionary_run(draw, lambda hypers: (hypers.dictionary, hypers.optimizer, 10))
DATA = np.random.default_rng(0).normal(size=(10, B, D)).astype(np.float32)
SPAN = Span(np.int32(0), np.int32(5))


@pytest.mark.parametrize("kind", ["standard", "topk", "batch_topk", "jumprelu"])
def test_a_step_is_the_same_over_a_mesh(kind):
    shards = 2 if kind == "topk" else 1
    own = dataclasses.replace(Config().dictionary, kind=kind, first_threshold=0.3, sparsity=0.1, feature_shards=shards)
    config = Config(dictionary=own)
    state = RUN.init(0, config)
    alone, said = jax.jit(RUN.advance)(state, config, SPAN, jnp.asarray(DATA))
    mesh = dictionary_mesh(2, 2)
    advance = sharded_advance(RUN, state, own, mesh)
    spread, metrics = advance(placed(state, own, mesh), config, SPAN, DATA)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), spread.params, alone.params)
    np.testing.assert_array_equal(spread.memory.silent, alone.memory.silent)
    np.testing.assert_allclose(metrics["loss"], said["loss"], rtol=1e-5)
    moments = [leaf for leaf in jax.tree.leaves(spread.opt_state) if leaf.shape == (F, D)]
    assert len(moments) == 4, "of encoder and decoder, two each"
    for leaf in (spread.params["W_enc"], spread.params["W_dec"], *moments):
        assert {part.data.shape for part in leaf.addressable_shards} == {(F // 2, D)}


def test_the_largest_of_all_shards_are_found_shard_by_shard():
    """Ties too; and no device is sent all entries of a row."""
    mesh = dictionary_mesh(1, 4)
    z = np.round(np.random.default_rng(1).normal(size=(8, 128)), 1).astype(np.float32)
    where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "feature"))
    find = jax.jit(lambda z: top_k(z, 5, shards=4), in_shardings=where)
    for got, want in zip(find(z), jax.lax.top_k(z, 5), strict=True):
        np.testing.assert_array_equal(got, want)
    program = find.lower(z).compile().as_text()
    gathered = [int(n) for n in re.findall(r"= f32\[8,(\d+)\][^=]* all-gather", program)]
    assert all(n <= 4 * 5 for n in gathered), gathered


def test_what_does_not_fit_a_mesh_is_refused():
    state, mesh = RUN.init(0, Config()), dictionary_mesh(1, 3)
    with pytest.raises(InputError, match="n_features = 64: not divisible by the 3 devices .* nearest are 63 and 66"):
        placed(state, Config().dictionary, mesh)
    with pytest.raises(InputError, match="products = 'auto'"):
        placed(state, dataclasses.replace(Config().dictionary, products="auto"), dictionary_mesh(2, 2))
    with pytest.raises(InputError, match="3 × 4 devices were asked for; there are 4"):
        dictionary_mesh(3, 4)
    with pytest.raises(InputError, match="feature_shards: 3 does not divide n_features = 64"):
        dataclasses.replace(Config().dictionary, feature_shards=3).check()
