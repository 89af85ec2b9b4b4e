"""Harvested rows are those of the model, each once, of places that go together; what does not count is not there."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.activations.harvest import Harvest, Place, draw, needed, rows_of, stretch
from interp_jax.data.text import windows
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

CFG = TransformerConfig(n_layers=3, d_model=16, n_heads=2, d_head=8, d_mlp=32, d_vocab=30, n_context=10)
PARAMS = transformer.init(jax.random.key(0), CFG)
MODEL = lambda tokens: transformer.apply(PARAMS, tokens, CFG)
TEXT = jax.random.randint(jax.random.key(1), (5_000,), 0, 30)
PLACES = {"read": Place("blocks.mlp.in", 1), "write": Place("blocks.mlp.out", 1)}
SHAPE = (3, 20, 10)
TAKE = lambda seed, b, n: windows(TEXT, seed, b, n, 10)


def run(harvest, seed=0, b=0, places=PLACES):
    return jax.jit(partial(stretch, MODEL, TAKE, places, harvest, SHAPE))(seed, b)


def of_tokens(seed=0, b=0, harvest=None):
    """All rows of a stretch's windows, one pass at a time, and their tokens and positions."""
    tokens = TAKE(seed, b, needed(harvest or Harvest(windows=8), 60, 10))
    acts = taps.record(MODEL, [place.site for place in PLACES.values()])(tokens)[1]
    rows = [np.asarray(acts[place.site][place.layer]).reshape(-1, 16) for place in PLACES.values()]
    return rows, np.asarray(tokens).ravel(), np.tile(np.arange(10), len(tokens))


def found_in(rows, all_rows):
    """The index of each row."""
    distance = np.abs(rows[:, None] - all_rows[None]).max(-1)
    assert (distance.min(1) < 1e-5).all()
    return distance.argmin(1)


def test_rows_are_those_of_the_model_and_go_together():
    harvest = Harvest(windows=8, skip_first=2)
    got = run(harvest)
    (read, written), _, position = of_tokens(harvest=harvest)
    assert got["read"].shape == got["write"].shape == (3, 20, 16)
    where = found_in(np.asarray(got["read"]).reshape(-1, 16), read)
    np.testing.assert_allclose(np.asarray(got["write"]).reshape(-1, 16), written[where], atol=1e-5)
    assert len(set(where)) == 60 and position[where].min() == 2


def test_a_stretch_is_a_function_of_seed_and_number():
    harvest = Harvest(windows=8)
    same, other, seeded = run(harvest, 0, 5), run(harvest, 0, 6), run(harvest, 1, 5)
    np.testing.assert_array_equal(same["read"], run(harvest, 0, 5)["read"])
    for another in (other, seeded):
        assert np.abs(np.asarray(another["read"]) - np.asarray(same["read"])).max() > 1e-3


def test_rows_of_a_batch_are_of_many_windows():
    harvest = Harvest(windows=8, skip_first=0)
    (read, _), _, _ = of_tokens(harvest=harvest)
    where = found_in(np.asarray(run(harvest)["read"])[0], read)
    assert len(set(where // 10)) >= 8


def test_excluded_tokens_and_long_rows_do_not_count():
    harvest = Harvest(windows=8, skip_first=0, excluded=(3, 7), spare=1.0)
    (read, _), tokens, _ = of_tokens(harvest=harvest)
    where = found_in(np.asarray(run(harvest)["read"]).reshape(-1, 16), read)
    assert not np.isin(tokens[where], (3, 7)).any()
    bounded, tokens = dataclasses.replace(harvest, excluded=(), largest=1.05), TAKE(0, 0, needed(harvest, 60, 10))
    place = Place("blocks.resid_post", 1)
    lengths = np.linalg.norm(rows_of(MODEL, tokens, [place])[0], axis=-1)
    got = np.linalg.norm(run(bounded, places={"read": place})["read"], axis=-1)
    assert got.max() <= 1.05 * np.median(lengths) + 1e-5 < lengths.max()


def test_several_layers_and_heads_in_one_pass():
    tokens = TAKE(0, 0, 4)
    places = [Place("blocks.resid_post", 2), Place("blocks.attn.z", 0), Place("blocks.resid_post", 0)]
    got = rows_of(MODEL, tokens, places)
    acts = taps.record(MODEL, ["blocks.resid_post", "blocks.attn.z"])(tokens)[1]
    for x, place in zip(got, places, strict=True):
        np.testing.assert_allclose(x, acts[place.site][place.layer].reshape(4, 10, -1), rtol=1e-5, atol=1e-6)


def test_too_few_rows_begin_again():
    chosen = draw(jax.random.key(0), jnp.arange(10) < 3, 7)
    assert set(map(int, chosen[:3])) == {0, 1, 2} and (chosen[3:6] == chosen[:3]).all()


def test_impossible_values_are_named():
    with pytest.raises(InputError, match="harvest.skip_first = 10: windows have 10 positions"):
        needed(Harvest(skip_first=10), 60, 10)
    with pytest.raises(InputError, match="harvest.excluded"):
        Harvest(excluded=(-1,)).check()
    with pytest.raises(InputError, match="harvest: windows"):
        Harvest(windows=0).check()
