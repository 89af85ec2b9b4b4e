"""Dictionaries on a grown model: what is read and scaled, what is observed, what is refused, and what the report says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.activations.harvest import Harvest
from interp_jax.activations.normaliser import Normalise, restored
from interp_jax.errors import InputError
from interp_jax.experiments import dictionaries
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.dictionaries import runs, subject
from interp_jax.experiments.dictionaries.config import Config, Measurements
from interp_jax.experiments.dictionaries.page import off_target, rows
from interp_jax.experiments.dictionaries.stream import Stream, batch_of
from interp_jax.experiments.dictionaries.subject import Shared
from interp_jax.experiments.dictionaries.told import NAMES, complaint
from interp_jax.experiments.subjects.model import Model
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
    assert data.read.shape == (10, 64, 32) and data.first == 10
    np.testing.assert_allclose(jnp.linalg.norm(data.read, axis=-1).mean(), 32**0.5, rtol=0.05)
    batch = batch_of((CFG,), SMALL, data, jnp.int32(0), jnp.int32(13))
    np.testing.assert_array_equal(batch.x, data.read[3])
    np.testing.assert_array_equal(batch.x, batch.y)


def test_a_transcoder_reads_one_site_and_says_another(on_random_weights):
    own = dataclasses.replace(SMALL.dictionary, d_in=32, d_out=32)
    config = dataclasses.replace(SMALL, site="blocks.mlp.in", writes="blocks.mlp.out", dictionary=own)
    config.check()
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(0))
    weights = jax.tree.map(lambda x: x[1], made.shared.models[0]["blocks"]["mlp"])
    x = restored(data.read[0], made.shared.normal["read"])
    said = jax.nn.gelu(x @ weights["W_in"] + weights["b_in"]) @ weights["W_out"] + weights["b_out"]
    np.testing.assert_allclose(restored(data.write[0], made.shared.normal["write"]), said, atol=1e-4)


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
    raw = restored(made.stream(made.shared, jnp.int32(0)).read, made.shared.normal["read"])
    here = dictionaries.experiment(SMALL)
    last = restored(here.stream(here.shared, jnp.int32(0)).read, here.shared.normal["read"])
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
    config.update({"site": "blocks.mlp.in", "writes": "blocks.mlp.out", "layers": (0, 1)})
    config.measure.update({"windows": 4, "at_once": 2})
    (member,) = expand(config, FILE, [])
    made = dictionaries.experiment(member.part)
    data = made.stream(made.shared, jnp.int32(0))
    assert data.read.shape == data.write.shape == (10, 64, 64)
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
    """As where `layer` names it; the error of what is said perfectly is 0, and of another layer's stream it is not."""
    config = dataclasses.replace(SMALL, layer=-1, layers=(0,), objective="end_to_end", batch_size=48, later=1.0)
    config.check()
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(0))
    batch = batch_of((CFG,), config, data, jnp.int32(0), jnp.int32(3))
    assert batch.error(batch.x) < 1e-6 < 0.1 < batch.error(0 * batch.x)
    other = dataclasses.replace(config, layer=0, layers=())
    same = batch_of((CFG,), other, data, jnp.int32(0), jnp.int32(3))
    np.testing.assert_array_equal(batch.error(0 * batch.x), same.error(0 * batch.x))


def test_trained_through_the_model_its_divergence_falls(on_random_weights):
    own = dataclasses.replace(SMALL.dictionary, kind="topk", k=8, most=8)
    config = dataclasses.replace(SMALL, layer=0, objective="end_to_end", batch_size=48, later=0.1, dictionary=own)
    config.check()
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(0))
    assert data.read.shape == (10, 4 * 11, 32) and data.through.x.shape == (10, 4, 12, 32)
    np.testing.assert_array_equal(
        data.through.counts[0, 0], np.asarray(data.through.counts[0, 0]) & (np.arange(12) >= 1)
    )
    state, advance, errors = made.run.init(0, config), jax.jit(made.run.advance), []
    for _ in range(6):
        state, metrics = advance(state, config, Span(np.int32(0), np.int32(10)), data)
        errors.append(float(metrics["error"]))
    assert errors[-1] < 0.7 * errors[0] and state.diverged_at == -1


PIECES = {
    "layer 1, of the model, .* step 13, example 5, dimension 7": ({"layer": -1, "layers": (1,)}, 7),
    "layer 0, of the model, .* step 13, example 5, dimension 7": ({"layers": (0, -1)}, 7),
    "layer -1, of the model, .* step 13, example 5, dimension 8": ({"layers": (0, -1)}, 40),
    "layer 1, of another, .* step 13, example 5, dimension 8": ({"other": Model(path="another")}, 40),
    "one of layers 0, -1, of the model, are not finite: step 13, example 5; nothing": (
        {"layers": (0, -1), "normalise": Normalise("whiten")},
        40,
    ),
}


@pytest.mark.parametrize("message", PIECES)
def test_activations_that_are_not_finite_are_named(on_random_weights, message):
    """With the piece of a crosscoder that they are of, its model too."""
    changes, dimension = PIECES[message]
    both = len(changes.get("layers", ())) > 1 or "other" in changes
    config = crosscoder(64, **changes) if both else dataclasses.replace(SMALL, **changes)
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(10))
    made.refuse(data)
    with pytest.raises(InputError, match=f"blocks.resid_post, {message}"):
        made.refuse(data._replace(read=data.read.at[3, 5, dimension].set(jnp.inf)))


@pytest.mark.parametrize("largest", [0.0, 3.0])
def test_a_model_that_is_not_finite_is_named_before_anything_is_fitted(largest):
    """The second of two models, and a layer of one, whose outputs are not numbers; a filter of outliers does not hide them."""
    params = transformer.init(jax.random.key(0), CFG)
    bad = jax.tree.map(lambda x: x, params)
    bad["blocks"]["mlp"]["b_out"] = bad["blocks"]["mlp"]["b_out"].at[1, 3].set(jnp.nan)
    text = jax.random.randint(jax.random.key(1), (3_000,), 0, 40)
    harvest = dataclasses.replace(SMALL.harvest, largest=largest)
    of_layers = crosscoder(64, layers=(0, 1), harvest=harvest)
    cases = {
        "layer 1, of the model, are not finite: the sample .*, batch 0, example 0, dimension 3": (of_layers, (bad,))
    }
    if not largest:
        two = crosscoder(64, other=Model(path="runs/second"), layer=1)
        cases["layer 1, of runs/second, are not finite"] = (two, (params, bad))
    for message, (config, models) in cases.items():
        shared = Shared(models, text, jnp.zeros((0, 13), jnp.int32), {}, jnp.zeros(()))
        with pytest.raises(InputError, match=f"blocks.resid_post, {message}"):
            subject.prepared(config, (CFG,) * len(models), shared)


def test_models_of_different_widths_are_no_pieces():
    wide = dataclasses.replace(CFG, d_model=96)
    with pytest.raises(InputError, match=r"as wide in both models .* not \[32, 96\]"):
        subject.check_widths(crosscoder(128, other=Model(path="another")), (CFG, wide))


def test_what_is_left_out_of_training_is_left_out_of_measures(on_random_weights):
    """Of held-out rows only those that count are summed and replaced: not the first, excluded tokens, and long ones."""
    none = dataclasses.replace(SMALL.harvest, skip_first=0, excluded=())
    some = dataclasses.replace(none, skip_first=2, excluded=(3, 5), largest=1.1)
    seen = {}
    for name, harvest in (("none", none), ("some", some)):
        own = dataclasses.replace(SMALL.dictionary, kind="standard")
        config = dataclasses.replace(SMALL, harvest=harvest, dictionary=own)
        made = dictionaries.experiment(config)
        seen[name] = jax.jit(made.observe)(perfect(made, config), config, made.shared)
    tokens = np.asarray(made.shared.held_out)[:, :-1]
    acts = taps.record(lambda t: transformer.apply(made.shared.models[0], t, CFG), {SMALL.site: (1,)})(tokens)[1]
    rows = np.asarray(acts[SMALL.site][0], np.float64).reshape(2, -1, 32)  # in the blocks that are measured together
    counts = ((np.arange(12) >= 2) & ~np.isin(tokens, (3, 5))).reshape(2, -1)
    lengths = np.linalg.norm(rows, axis=-1)
    for block in range(2):
        counts[block] &= lengths[block] <= 1.1 * np.median(lengths[block][counts[block]])
    assert seen["none"]["sums.n"].tolist() == [24, 24]
    assert seen["some"]["sums.n"].tolist() == counts.sum(1).tolist()
    assert 0 < counts.sum() < (np.isin(tokens[:, 2:], (3, 5), invert=True)).sum(), "some are too long"
    for block in range(2):
        np.testing.assert_allclose(seen["some"]["sums.mean"][block], rows[block][counts[block]].mean(0), atol=1e-4)
        fired = np.abs(np.asarray(seen["some"]["sums.fired"][block]))
        assert fired.sum() == 32 * counts[block].sum()
    clean, gone = (np.asarray(seen["some"][f"loss.{way}"])[0] for way in ("clean", "zero"))
    np.testing.assert_allclose(gone[:2], clean[:2], atol=1e-5)
    assert (np.abs(np.asarray(seen["none"]["loss.zero"])[0][:2] - clean[:2]) > 1e-3).all()


CAUSES = {
    "standard": ("dictionary.sparsity", "first_threshold"),
    "jumprelu": ("dictionary.first_threshold", "normalise"),
    "topk": ("none is positive on what is read", "penalty"),
    "matching_pursuit": ("none is positive", "penalty"),
}


@pytest.mark.parametrize("kind", CAUSES)
def test_dictionaries_that_fall_silent_are_complained_of(kind):
    """With a cause that their kind can have."""
    own = dataclasses.replace(SMALL.dictionary, kind=kind)
    assert complaint(own, 40, {"l0": np.array([3.0, np.nan, 0.5])}) == ""
    text, (named, other) = complaint(own, 40, {"l0": np.array([0.0, 1.0, 0.0])}), CAUSES[kind]
    assert f"no feature is active in 2 of 3 {NAMES[kind]} dictionaries by step 40 (members 0, 2): " in text
    assert named in text and "optimizer.learning_rate" in text and other not in text


ERRORS = {
    "layer = 2: a model has 2 layers": {"layer": 2},
    "dictionary.d_in = 32: 'blocks.mlp.post' is 48 wide": {"site": "blocks.mlp.post"},
    "dictionary.d_in = 32: 'blocks.resid_post' is 32 and 32 wide": {"layers": (0, 1)},
    "takes whole windows, of 12 positions here": {"objective": "end_to_end", "batch_size": 11},
    "'blocks.attn.pattern': not a site of vectors": {"site": "blocks.attn.pattern"},
    "'logits': not a site of vectors": {"site": "logits"},
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
        "dictionary.pieces = 1: 2 places are read": {"layers": (0, 1)},
        "unknown 'global'": {"objective": "global"},
        "the model goes on from one place": {"objective": "end_to_end", "site": "blocks.mlp.post"},
        "harvest.largest: end_to_end takes whole windows": {
            "objective": "end_to_end",
            "harvest": Harvest(largest=3.0),
        },
    }.items():
        with pytest.raises(InputError, match=message):
            dataclasses.replace(Config(), **changes).check()
    with pytest.raises(InputError, match="give the directory of a finished configs/grow.py"):
        dictionaries.experiment(Config())
