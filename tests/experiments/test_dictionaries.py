"""Dictionaries on a grown model: what is read and scaled, what is observed, what is refused, and what the report says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.activations.harvest import stretch
from interp_jax.activations.normaliser import restored
from interp_jax.data.text import END
from interp_jax.experiments import dictionaries
from interp_jax.experiments.dictionaries import runs, subject
from interp_jax.experiments.dictionaries.page import rows
from interp_jax.experiments.dictionaries.stream import Stream, batch_of, here
from interp_jax.experiments.subjects.model import Model
from interp_jax.experiments.sweep import expand
from interp_jax.models import transformer
from interp_jax.parts import stack
from interp_jax.results.blocks import Figure, Section, TableBlock
from interp_jax.results.report import render
from interp_jax.train.population import place, population
from interp_jax.train.run import Span
from tests.experiments.groups import group_of
from tests.experiments.small_dictionaries import CFG, FILE, SMALL, crosscoder, of_random_weights


@pytest.fixture
def on_random_weights(monkeypatch):
    """A model of random weights in place of a grown run."""
    monkeypatch.setattr(runs, "subject", of_random_weights)


@pytest.mark.parametrize(("arg", "n", "groups"), [("", 20, 5), ("tiny", 4, 2)])
def test_sweeps_expand_to_valid_members(arg, n, groups):
    members = expand(FILE.get_config(arg), FILE, [arg or "default"])
    assert len(members) == n and len({jax.tree.structure(m.part) for m in members}) == groups


def test_members_read_scaled_activations_of_the_place(on_random_weights):
    made = dictionaries.experiment(SMALL)
    data = made.stream(made.shared, jnp.int32(10))
    assert data.read.shape == (1, 10, 64, 32) and data.first == 10
    np.testing.assert_allclose(jnp.linalg.norm(data.read, axis=-1).mean(), 32**0.5, rtol=0.05)
    batch = batch_of((CFG,), SMALL, data, jnp.int32(0), jnp.int32(13))
    np.testing.assert_array_equal(batch.x, data.read[0, 3])
    np.testing.assert_array_equal(batch.x, batch.y)


def test_a_transcoder_reads_one_site_and_says_another(on_random_weights):
    own = dataclasses.replace(SMALL.dictionary, d_in=32, d_out=32)
    config = dataclasses.replace(SMALL, sites=("blocks.mlp.in",), writes="blocks.mlp.out", dictionary=own)
    config.check()
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(0))
    weights = jax.tree.map(lambda x: x[1], made.shared.models[0]["blocks"]["mlp"])
    x = restored(data.read[0, 0], here(made.shared.normal["read"], 0))
    said = jax.nn.gelu(x @ weights["W_in"] + weights["b_in"]) @ weights["W_out"] + weights["b_out"]
    np.testing.assert_allclose(restored(data.write[0, 0], here(made.shared.normal["write"], 0)), said, atol=1e-4)


def spread_of(seen):
    """Of all held-out activations that count, per example."""
    n, mean, spread = (np.asarray(seen[f"sums.{name}"], np.float64) for name in ("n", "mean", "spread"))
    centre = (n[:, None] * mean).sum(0) / n.sum()
    return (spread + n * np.square(mean - centre).sum(-1)).sum() / n.sum()


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
    clean = np.asarray(seen["loss.clean"])
    assert clean.shape == (1, 12) and abs(row["loss_spliced"] - clean.mean()) < 1e-4


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
    assert len(table.rows) == 2 and len(figures) == 6
    shown = dict(zip(table.columns, table.rows[0], strict=False))
    assert shown["MSE"] == min(before, after, key=lambda row: row["l0"])["mse"] > 0 and "bias" in table.columns
    np.testing.assert_allclose(after["explained"], 1 - after["mse"] / spread_of(last), rtol=1e-5)
    assert 0 < after["bias"] < 1
    (curve,) = figures[5].data
    loss = {way: np.asarray(first[f"loss.{way}"]).mean(0)[1:] for way in ("clean", "spliced", "mean")}
    share = (loss["mean"] - loss["spliced"]) / (loss["mean"] - loss["clean"])
    np.testing.assert_allclose(curve.y, share, rtol=1e-4)
    assert list(curve.x) == list(range(1, 12)), "of the first position nothing is replaced"
    for figure, field in zip(figures, ("explained", "kl_recovered_mean", "dead"), strict=False):
        (cloud,) = figure.data
        assert list(cloud.hovertext) == [f"TopK, k = {SMALL.dictionary.k}, seed {i}" for i in range(2)]
        assert list(cloud.y) == [before[field], after[field]]
    (curve,) = figures[3].data
    assert sum(curve.y) == pytest.approx(1 - (before["dead"] + after["dead"]) / 2)
    assert len(page.data["dictionaries.json"]) == 2
    assert "NaN" not in render(page.title, page.summary, page.blocks)
    assert isinstance(made.stream(made.shared, jnp.int32(0)), Stream)


SEVERAL = dataclasses.replace(SMALL, sites=("blocks.resid_mid", "blocks.resid_post"), layers=(0, 1), steps=20)


def trained(config, members, made):
    """States of members after all steps, as one population."""
    program = population(
        lambda member, data: made.run.advance(member[0], member[1], Span(data[1], data[1] + 10), data[0])[0],
        devices=jax.devices()[:1],
    )
    states = place(jax.vmap(lambda member: made.run.init(member.seed, member))(members), jax.devices()[:1])
    members = place(members, jax.devices()[:1])
    make = jax.jit(made.stream)
    for step in (0, 10):
        states = program((states, members), (make(made.shared, jnp.int32(step)), jnp.int32(step)))
    return states


@pytest.mark.slow
def test_members_that_read_several_places_train_in_one_program_on_one_harvest(
    on_random_weights, monkeypatch, compilations
):
    passes = []
    counted = lambda *a: passes.append(1) or stretch(*a)
    monkeypatch.setattr(subject, "stretch", counted)
    each = [dataclasses.replace(SEVERAL, place=i, seed=i) for i in range(4)]
    for one in each:
        one.check()
    members = stack(each)
    made = dictionaries.experiment(SEVERAL)
    passes.clear()
    with compilations() as names:
        states = trained(SEVERAL, members, made)
    assert passes == [1] and names.count("on_device") == 1, names
    for i, (site, _, layer) in enumerate(SEVERAL.places):
        alone = dataclasses.replace(SMALL, sites=(site,), layers=(layer,), steps=20, seed=i)
        own = trained(alone, stack([alone]), dictionaries.experiment(alone))
        for name, value in own.params.items():
            np.testing.assert_allclose(states.params[name][i], value[0], atol=2e-5, err_msg=f"{site} {layer}")
    decoders = np.asarray(states.params["W_dec"])
    assert min(np.abs(decoders[i] - decoders[j]).max() for i in range(4) for j in range(i)) > 0.01


@pytest.mark.slow
def test_each_place_is_measured_and_reported_by_itself(on_random_weights):
    made = dictionaries.experiment(SEVERAL)
    observe, seen = jax.jit(made.observe), []
    for i, (site, _, layer) in enumerate(SEVERAL.places):
        config = dataclasses.replace(SEVERAL, place=i)
        seen.append(observe(perfect(made, config), config, made.shared))
        alone = dataclasses.replace(SMALL, sites=(site,), layers=(layer,), steps=20)
        one = dictionaries.experiment(alone)
        expected = jax.jit(one.observe)(perfect(one, alone), alone, one.shared)
        for name in expected:
            np.testing.assert_allclose(seen[-1][name], expected[name], rtol=2e-3, atol=2e-4, err_msg=f"{site} {name}")
    group = group_of(SEVERAL, seen)
    group = group._replace(config=stack([dataclasses.replace(SEVERAL, place=i) for i in range(4)]))
    page = dictionaries.report([group])
    titles = [block.heading for block in page.blocks if isinstance(block, Section)]
    assert [title.rpartition(": ")[2] for title in titles if "layer" in title] == [
        f"blocks.resid_{name}, layer {layer}" for name in ("mid", "post") for layer in (0, 1)
    ]
    assert len([block for block in page.blocks if isinstance(block, TableBlock)]) == 4
    assert "NaN" not in render(page.title, page.summary, page.blocks)


@pytest.mark.parametrize("what", ["layers", "models"])
def test_a_crosscoder_reads_several_places_side_by_side(on_random_weights, what):
    of_layers = crosscoder(64, layers=(0, -1))
    of_models = crosscoder(64, other=Model(path="another"))
    config = of_layers if what == "layers" else of_models
    made = dictionaries.experiment(config)
    raw = restored(made.stream(made.shared, jnp.int32(0)).read[0], here(made.shared.normal["read"], 0))
    one = dictionaries.experiment(SMALL)
    last = restored(one.stream(one.shared, jnp.int32(0)).read[0], here(one.shared.normal["read"], 0))
    half = raw[..., 32:] if what == "layers" else raw[..., :32]
    np.testing.assert_allclose(half, last, atol=1e-4)
    assert np.abs(raw[..., :32] - raw[..., 32:]).max() > 0.1
    state = made.run.init(0, config)
    seen = jax.jit(made.observe)(state, config, made.shared)
    assert seen["loss.spliced"].shape == (2, 12) and seen["lengths"].shape == (20, 2)
    np.testing.assert_allclose(seen["lengths"].sum(1), config.dictionary.first_norm * 2**0.5, rtol=0.3)
    page = dictionaries.report([group_of(config, [seen])])
    tables = [block.table for block in page.blocks if isinstance(block, TableBlock)]
    alive, *pieces = tables[-1].rows[0][1:]
    assert alive == sum(pieces) and alive <= 20
    assert "NaN" not in render(page.title, page.summary, page.blocks)


def test_a_cross_layer_transcoder_is_trained_and_reported(on_random_weights):
    """By the config's own fields: it reads both layers' MLP, and what it says of the second stands in place of it there."""
    config = FILE.get_config("tiny")
    own = {"kind": "cross_layer", "pieces": 2, "d_in": 64, "d_out": 64, "n_features": 64, "first_threshold": 0.1}
    config.dictionary.update(own | {"bandwidth": 0.5, "first_norm": 1.0})
    config.update({"sites": ("blocks.mlp.in",), "writes": "blocks.mlp.out", "layers": (0, 1)})
    config.measure.update({"windows": 4, "at_once": 2})
    (member,) = expand(config, FILE, [])
    made = dictionaries.experiment(member.part)
    data = made.stream(made.shared, jnp.int32(0))
    assert data.read.shape == data.write.shape == (1, 10, 64, 64)
    state, advance, errors = made.run.init(0, member.part), jax.jit(made.run.advance), []
    for _ in range(3):
        state, metrics = advance(state, member.part, Span(np.int32(0), np.int32(10)), data)
        errors.append(float(metrics["error"]))
    assert errors[-1] < errors[0] and set(state.params) >= {"W_dec_0", "W_dec_1"}
    seen = jax.jit(made.observe)(state, member.part, made.shared)
    assert seen["loss.spliced"].shape == (2, 12) and "lengths" not in seen
    group = group_of(member.part, [seen])
    page = dictionaries.report([group])
    (table,) = [block.table for block in page.blocks if isinstance(block, TableBlock)]
    assert table.rows[0][0] == "cross-layer" and "NaN" not in render(page.title, page.summary, page.blocks)
    assert "blocks.mlp.in → blocks.mlp.out, layers 0, 1" in render(page.title, page.summary, page.blocks)


def test_trained_through_the_model_from_the_one_layer_that_layers_names(on_random_weights):
    """Counted from either end; the error of what is said perfectly is 0, and of nothing it is not."""
    config = dataclasses.replace(SMALL, layers=(0,), objective="end_to_end", batch_size=48, later=1.0)
    config.check()
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(0))
    batch = batch_of((CFG,), config, data, jnp.int32(0), jnp.int32(3))
    assert batch.error(batch.x) < 1e-6 < 0.1 < batch.error(0 * batch.x)
    other = dataclasses.replace(config, layers=(-2,))
    same = batch_of((CFG,), other, data, jnp.int32(0), jnp.int32(3))
    np.testing.assert_array_equal(batch.error(0 * batch.x), same.error(0 * batch.x))


def test_trained_through_the_model_its_divergence_falls(on_random_weights):
    own = dataclasses.replace(SMALL.dictionary, kind="topk", k=8, most=8)
    config = dataclasses.replace(SMALL, layers=(0,), objective="end_to_end", batch_size=48, later=0.1, dictionary=own)
    config.check()
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(0))
    assert data.read.shape == (1, 10, 4 * 11, 32) and data.through.x.shape == (10, 4, 12, 32)
    np.testing.assert_array_equal(
        data.through.counts[0, 0], np.asarray(data.through.counts[0, 0]) & (np.arange(12) >= 1)
    )
    state, advance, errors = made.run.init(0, config), jax.jit(made.run.advance), []
    for _ in range(6):
        state, metrics = advance(state, config, Span(np.int32(0), np.int32(10)), data)
        errors.append(float(metrics["error"]))
    assert errors[-1] < 0.7 * errors[0] and state.diverged_at == -1


def test_what_is_left_out_of_training_is_left_out_of_measures(on_random_weights):
    """Of held-out rows only those that count are summed and replaced: not the first, excluded tokens, ends of text, long ones.

    What is long is told by the first place, in training as here.
    """
    none = dataclasses.replace(SMALL.harvest, skip_first=0, excluded=())
    some = dataclasses.replace(none, skip_first=2, excluded=(3, 5), largest=1.1)
    seen, alone = {}, {"layers": (1,)}
    for name, harvest, where in (
        ("none", none, alone),
        ("some", some, alone),
        ("second", some, {"layers": (1, 0), "place": 1}),
    ):
        own = dataclasses.replace(SMALL.dictionary, kind="standard")
        config = dataclasses.replace(SMALL, harvest=harvest, dictionary=own, **where)
        made = dictionaries.experiment(config)
        seen[name] = jax.jit(made.observe)(perfect(made, config), config, made.shared)
    tokens = np.asarray(made.shared.held_out)[:, :-1]
    (site,) = SMALL.sites
    acts = taps.record(lambda t: transformer.apply(made.shared.models[0], t, CFG), {site: (0, 1)})(tokens)[1][site]
    below, rows = np.asarray(acts, np.float64).reshape(2, 2, -1, 32)  # in the blocks that are measured together
    counts = ((np.arange(12) >= 2) & ~np.isin(tokens, (END, 3, 5))).reshape(2, -1)
    lengths = np.linalg.norm(rows, axis=-1)
    for block in range(2):
        counts[block] &= lengths[block] <= 1.1 * np.median(lengths[block][counts[block]])
    assert seen["none"]["sums.n"].tolist() == (tokens != END).reshape(2, -1).sum(1).tolist()
    assert seen["some"]["sums.n"].tolist() == counts.sum(1).tolist()
    assert 0 < counts.sum() < (np.isin(tokens[:, 2:], (END, 3, 5), invert=True)).sum(), "some are too long"
    for block in range(2):
        for name, own in (("some", rows), ("second", below)):
            np.testing.assert_allclose(seen[name]["sums.mean"][block], own[block][counts[block]].mean(0), atol=1e-4)
        fired = np.abs(np.asarray(seen["some"]["sums.fired"][block]))
        assert fired.sum() == 32 * counts[block].sum()
    clean, gone = (np.asarray(seen["some"][f"loss.{way}"])[0] for way in ("clean", "zero"))
    np.testing.assert_allclose(gone[:2], clean[:2], atol=1e-5)
    assert (np.abs(np.asarray(seen["none"]["loss.zero"])[0][:2] - clean[:2]) > 1e-3).all()
