"""Dictionaries on a grown model: what is read and scaled, what is observed, what is refused, and what the report says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.experiments import dictionaries
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.dictionaries import runs
from interp_jax.experiments.dictionaries.config import Config, Measurements
from interp_jax.experiments.dictionaries.page import rows
from interp_jax.experiments.dictionaries.runs import Shared, Stream
from interp_jax.experiments.sweep import expand
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.results.report import Figure, TableBlock, render
from interp_jax.train.run import Span
from tests.experiments.groups import group_of

FILE = load_file(CONFIGS / "dictionaries.py")
CFG = TransformerConfig(n_layers=2, d_model=32, n_heads=4, d_head=8, d_mlp=48, d_vocab=40, n_context=12)
SMALL = dataclasses.replace(
    expand(FILE.get_config("tiny"), FILE, ["tiny"])[0].part, layer=1, measure=Measurements(windows=4, at_once=2)
)


@pytest.fixture
def on_random_weights(monkeypatch):
    """A model of random weights and a text of random tokens in place of a grown run; scales are those of the library."""
    params = jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(0), CFG))
    text = jax.random.randint(jax.random.key(1), (3_000,), 0, 40)
    held_out = jax.random.randint(jax.random.key(2), (4, 13), 0, 40)

    def subject(config):
        runs.check_place(config, CFG, "a model")
        return CFG, runs.scaled(config, CFG, Shared(params, text, held_out, {}, jnp.zeros(())))

    monkeypatch.setattr(runs, "subject", subject)


@pytest.mark.parametrize(("arg", "n", "groups"), [("", 20, 5), ("tiny", 4, 2)])
def test_sweeps_expand_to_valid_members(arg, n, groups):
    members = expand(FILE.get_config(arg), FILE, [arg or "default"])
    assert len(members) == n and len({jax.tree.structure(m.part) for m in members}) == groups


def test_members_read_scaled_activations_of_the_place(on_random_weights):
    made = dictionaries.experiment(SMALL)
    data = made.stream(made.shared, jnp.int32(10))
    assert data.read.shape == (10, 64, 32) and data.first == 10
    np.testing.assert_allclose(jnp.linalg.norm(data.read, axis=-1).mean(), 32**0.5, rtol=0.05)
    batch = runs.batch_of(SMALL, data, jnp.int32(0), jnp.int32(13))
    np.testing.assert_array_equal(batch.x, data.read[3])
    np.testing.assert_array_equal(batch.x, batch.y)


def test_a_transcoder_reads_one_site_and_says_another(on_random_weights):
    own = dataclasses.replace(SMALL.dictionary, d_in=32, d_out=32)
    config = dataclasses.replace(SMALL, site="blocks.mlp.in", writes="blocks.mlp.out", dictionary=own)
    config.check()
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(0))
    weights = jax.tree.map(lambda x: x[1], made.shared.params["blocks"]["mlp"])
    x = data.read[0] * made.shared.scale["read"]
    said = jax.nn.gelu(x @ weights["W_in"] + weights["b_in"]) @ weights["W_out"] + weights["b_out"]
    np.testing.assert_allclose(data.write[0] * made.shared.scale["write"], said, atol=1e-4)


def perfect(made, config):
    """A dictionary that says what it reads: each direction and its opposite."""
    eye = np.eye(32, dtype=np.float32)
    both = jnp.asarray(np.concatenate([eye, -eye]))
    params = {"W_enc": both, "W_dec": both, "b_enc": jnp.zeros(64), "b_dec": jnp.zeros(32)}
    return made.run.init(0, config).replace(params=params)


def test_what_says_the_activation_recovers_everything(on_random_weights):
    config = dataclasses.replace(SMALL, dictionary=dataclasses.replace(SMALL.dictionary, kind="standard"))
    made = dictionaries.experiment(config)
    seen = jax.jit(made.observe)(perfect(made, config), config, made.shared)
    (row,) = rows(group_of(config, [seen]))
    for name in ("explained", "loss_recovered_zero", "loss_recovered_mean", "kl_recovered_zero", "kl_recovered_mean"):
        assert abs(row[name] - 1) < 1e-3, (name, row)
    acts = taps.record(runs.model_of(CFG, made.shared.params), ["blocks.resid_post"])(made.shared.held_out[:, :-1])[1]
    clean = np.asarray(seen["loss.clean"])
    assert clean.shape == (12,) and abs(row["loss_spliced"] - clean.mean()) < 1e-4
    assert acts["blocks.resid_post"].shape[0] == 2


def test_a_dictionary_learns_and_the_report_has_it(on_random_weights):
    made = dictionaries.experiment(SMALL)
    state, observe = made.run.init(0, SMALL), jax.jit(made.observe)
    first = observe(state, SMALL, made.shared)
    for step in (0, 10):
        data = made.stream(made.shared, jnp.int32(step))
        state, _ = jax.jit(made.run.advance)(state, SMALL, Span(np.int32(step), np.int32(step + 10)), data)
    last = observe(state, SMALL, made.shared)
    group = group_of(SMALL, [first, last])
    before, after = rows(group)
    assert after["explained"] > before["explained"]
    page = dictionaries.report([group])
    (table,) = [block.table for block in page.blocks if isinstance(block, TableBlock)]
    figures = [block.figure for block in page.blocks if isinstance(block, Figure)]
    assert len(table.rows) == 2 and len(figures) == 5
    for figure, field in zip(figures, ("explained", "kl_recovered_mean", "dead"), strict=False):
        (cloud,) = figure.data
        assert list(cloud.hovertext) == [f"TopK, k = {SMALL.dictionary.k}, seed {i}" for i in range(2)]
        assert list(cloud.y) == [before[field], after[field]]
    (curve,) = figures[3].data
    assert sum(curve.y) == pytest.approx(1 - (before["dead"] + after["dead"]) / 2)
    assert len(page.data["dictionaries.json"]) == 2
    assert "NaN" not in render(page.title, page.summary, page.blocks)
    assert isinstance(made.stream(made.shared, jnp.int32(0)), Stream)


ERRORS = {
    "layer = 2: a model has 2 layers": {"layer": 2},
    "dictionary.d_in = 32: 'blocks.mlp.post' of a model is 48 wide": {"site": "blocks.mlp.post"},
    "'blocks.attn.pattern': not a site of vectors": {"site": "blocks.attn.pattern"},
    "'logits': not a site of vectors": {"site": "logits"},
}


@pytest.mark.parametrize("message", ERRORS)
def test_places_that_are_not_there_are_refused(on_random_weights, message):
    with pytest.raises(InputError, match=message):
        dictionaries.experiment(dataclasses.replace(SMALL, **ERRORS[message]))


def test_impossible_values_are_named():
    for message, changes in {
        "a transcoder has both": {"writes": "blocks.mlp.out"},
        "measure.windows = 3 must be a multiple": {"measure": Measurements(windows=3, at_once=2)},
        "stream_steps must be at least 1": {"stream_steps": 0},
    }.items():
        with pytest.raises(InputError, match=message):
            dataclasses.replace(Config(), **changes).check()
    with pytest.raises(InputError, match="give the directory of a finished configs/grow.py"):
        dictionaries.experiment(Config())
