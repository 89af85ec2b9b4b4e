"""Fidelity over a stream is that of the whole at once, in float64; and not the mean of its batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.measures.fidelity import Sums, dictionary_sums, merge, sums

RNG = np.random.default_rng(0)


def stacked(blocks):
    return Sums(*(np.stack(x) for x in zip(*blocks, strict=True)))


def stream(offset, n=6, size=64, width=5):
    """Blocks whose means drift far apart, and reconstructions that are short of them by a tenth, and noisy."""
    y = [RNG.normal(i, 1, (size, width)) + offset for i in range(n)]
    said = [0.9 * (b - offset) + offset + RNG.normal(0, 0.1, b.shape) for b in y]
    f = [np.maximum(RNG.normal(-1, 1, (size, 7)), 0) * (np.arange(7) > 1) for _ in y]
    return [[jnp.float32(x) for x in xs] for xs in (y, said, f)]


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_stream_has_the_measures_of_the_whole(offset):
    blocks = stream(offset)
    got = merge(stacked([jax.jit(sums)(*block) for block in zip(*blocks, strict=True)]))
    y, said, f = (np.concatenate(x).astype(np.float64) for x in blocks)
    error, spread = np.square(y - said).sum(), np.square(y - y.mean(0)).sum()
    lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(said, axis=1)
    want = {
        "n": len(y),
        "l0": (f != 0).sum(1).mean(),
        "mse": error / len(y),
        "explained_variance": 1 - error / spread,
        "cosine": ((y * said).sum(1) / lengths).mean(),
        "shrinkage": np.square(said).sum() / (y * said).sum(),
        "bias": np.linalg.norm((said - y).mean(0)) / np.sqrt(spread / len(y)),
        "density": (f != 0).mean(0),
        "dead": 2 / 7,
    }
    for name, value in want.items():
        np.testing.assert_allclose(getattr(got, name), value, rtol=2e-5, atol=2e-6, err_msg=name)


def test_explained_variance_is_not_the_mean_of_batches():
    """Within a block all is explained alike; over the stream, whose means differ more, much more is."""
    parts = [sums(*block) for block in zip(*stream(0.0), strict=True)]
    whole = merge(stacked(parts)).explained_variance
    by_block = np.mean([merge(stacked([part])).explained_variance for part in parts])
    assert whole - by_block > 0.05


def test_only_examples_that_count_are_summed():
    """Others may be anything, even infinite; a block of nothing adds nothing."""
    y, said, f = (np.concatenate(x) for x in stream(0.0, n=2))
    counts = np.arange(len(y)) % 3 > 0
    spoilt = [jnp.asarray(np.where(counts[:, None], x, np.inf)) for x in (y, said)] + [jnp.asarray(f)]
    some, none = jax.jit(sums)(*spoilt, counts), jax.jit(sums)(y, said, f, 0 * counts > 0)
    got, want = (
        merge(stacked([some, none])),
        merge(stacked([sums(*(x[counts] for x in map(jnp.asarray, (y, said, f))))])),
    )
    assert got.n == counts.sum()
    for name in ("l0", "mse", "explained_variance", "cosine", "shrinkage", "bias", "density", "dead"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-5, err_msg=name)


def test_members_have_their_own_and_features_beyond_a_width_are_not_dead():
    blocks = [stacked([sums(*b) for b in zip(*stream(float(i)), strict=True)]) for i in range(2)]
    both = merge(Sums(*(np.stack(x) for x in zip(*blocks, strict=True))), axis=1, width=np.array([0, 4]))
    for i, block in enumerate(blocks):
        alone = merge(block, width=(0, 4)[i])
        for name in ("l0", "explained_variance", "density", "dead"):
            np.testing.assert_array_equal(getattr(both, name)[i], getattr(alone, name))
    assert both.dead[0] == 2 / 7 and both.dead[1] == 2 / 4


def test_a_perfect_dictionary_explains_everything():
    cfg = Dictionary(kind="standard", d_in=4, n_features=8)
    params = dictionary.init(jax.random.key(0), cfg)
    eye = np.eye(4, dtype=np.float32)
    params |= {"W_enc": jnp.r_[eye, -eye], "W_dec": jnp.r_[eye, -eye]}
    x = jnp.float32(RNG.normal(size=(32, 4)))
    got = merge(stacked([dictionary_sums(params, Batch(x, x), cfg)]))
    assert abs(got.explained_variance - 1) < 1e-6 and abs(got.shrinkage - 1) < 1e-6 and got.l0 == 4
    assert got.mse < 1e-10 and abs(got.cosine - 1) < 1e-6 and got.bias < 1e-6


def test_nothing_is_explained_where_nothing_varies():
    y = jnp.ones((8, 3))
    assert np.isnan(merge(stacked([sums(y, y, y)])).explained_variance)
