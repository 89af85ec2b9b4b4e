"""Dictionaries on a grown model: what is read and scaled, what is observed, what is refused, and what the report says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.activations.harvest import stretch
from interp_jax.activations.normaliser import restored
from interp_jax.errors import InputError
from interp_jax.experiments import dictionaries
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.dictionaries import runs, subject
from interp_jax.experiments.dictionaries.config import Config, Measurements
from interp_jax.experiments.dictionaries.page import off_target, rows
from interp_jax.experiments.dictionaries.stream import Stream, batch_of, here
from interp_jax.experiments.dictionaries.subject import Shared
from interp_jax.experiments.dictionaries.told import complaint
from interp_jax.experiments.subjects.model import Model
from interp_jax.experiments.sweep import expand
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import stack
from interp_jax.results.report import Figure, Section, TableBlock, render
from interp_jax.train.population import place, population
from interp_jax.train.run import Span
from tests.experiments.groups import group_of

FILE = load_file(CONFIGS / "dictionaries.py")
CFG = TransformerConfig(n_layers=2, d_model=32, n_heads=4, d_head=8, d_mlp=48, d_vocab=40, n_context=12)
SMALL = dataclasses.replace(
    expand(FILE.get_config("tiny"), FILE, ["tiny"])[0].part, layers=(1,), measure=Measurements(windows=4, at_once=2)
)


@pytest.fixture
def on_random_weights(monkeypatch):
    """A model of random weights and a text of random tokens in place of a grown run; scales are those of the library."""
    params = jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(0), CFG))
    other = jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(3), CFG))
    text = jax.random.randint(jax.random.key(1), (3_000,), 0, 40)
    held_out = jax.random.randint(jax.random.key(2), (4, 13), 0, 40)

    def of_random_weights(config):
        subject.check_place(config, CFG, "a model")
        models = (params, other) if config.other.path else (params,)
        cfgs = (CFG,) * len(models)
        subject.check_widths(config, cfgs)
        shared = Shared(models, text, held_out, {}, jnp.zeros(()))
        return cfgs, subject.prepared(config, cfgs, shared)

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


def crosscoder(d_in, **changes):
    own = dataclasses.replace(SMALL.dictionary, kind="standard", d_in=d_in, n_features=20, pieces=2)
    config = dataclasses.replace(SMALL, dictionary=own, **changes)
    config.check()
    return config


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


def test_activations_that_are_not_finite_are_named(on_random_weights):
    made = dictionaries.experiment(SMALL)
    data = made.stream(made.shared, jnp.int32(10))
    made.refuse(data)
    with pytest.raises(InputError, match="blocks.resid_post, layer 1, .* step 13, example 5, dimension 7"):
        made.refuse(data._replace(read=data.read.at[0, 3, 5, 7].set(jnp.inf)))


def test_dictionaries_that_fall_silent_are_complained_of():
    assert complaint(40, {"l0": np.array([3.0, np.nan, 0.5])}) == ""
    assert "no feature is active in 2 of 3 dictionaries by step 40 (members 0, 2)" in complaint(
        40, {"l0": np.array([0.0, 1.0, 0.0])}
    )


ERRORS = {
    "layers = .2,.: a model has 2 layers, so none is 2": {"layers": (2,)},
    "dictionary.d_in = 32: 'blocks.mlp.post' is 48 wide": {"sites": ("blocks.mlp.post",)},
    "32 and 48 wide; members of one population": {"sites": ("blocks.resid_post", "blocks.mlp.post")},
    "takes whole windows, of 12 positions here": {"objective": "end_to_end", "batch_size": 11},
    "'blocks.attn.pattern': not a site of vectors": {"sites": ("blocks.attn.pattern",)},
    "'logits': not a site of vectors": {"sites": ("logits",)},
}


def test_dictionaries_that_miss_their_target_are_named():
    row = lambda level, l0: {"kind": "L1", "told": f"target = {level:g}", "level": level, "l0": l0}
    assert off_target([row(8.0, 9.9), row(8.0, 6.5)]) == "" == off_target([])
    text = off_target([row(8.0, 8.1), row(4.0, 986.0), row(16.0, 30.0)])
    assert "2 of 3" in text and "target = 4, has 986" in text and "control_rate" in text


@pytest.mark.parametrize("message", ERRORS)
def test_places_that_are_not_there_are_refused(on_random_weights, message):
    with pytest.raises(InputError, match=message):
        dictionaries.experiment(dataclasses.replace(SMALL, **ERRORS[message]))


def test_impossible_values_are_named():
    for message, changes in {
        "a transcoder has both": {"writes": "blocks.mlp.out"},
        "measure.windows = 3 must be a multiple": {"measure": Measurements(windows=3, at_once=2)},
        "stream_steps must be at least 1": {"stream_steps": 0},
        "dictionary.pieces = 1: 2 places are read, each a piece": {"other": Model(path="another")},
        "place = 2: 2 places are read, counted from 0": {"layers": (0, 1), "place": 2},
        "sites = .*: must be names of sites": {"sites": ()},
        "a transcoder reads one of them": {
            "sites": ("blocks.mlp.in", "blocks.resid_mid"),
            "writes": "blocks.mlp.out",
            "dictionary": dataclasses.replace(Config().dictionary, d_out=128),
        },
        "unknown 'global'": {"objective": "global"},
        "the model goes on from one place": {"objective": "end_to_end", "sites": ("blocks.mlp.post",)},
    }.items():
        with pytest.raises(InputError, match=message):
            dataclasses.replace(Config(), **changes).check()
    with pytest.raises(
        InputError, match="give the directory of a finished configs/grow.py, whose text is read too, or of"
    ):
        dictionaries.experiment(Config())
