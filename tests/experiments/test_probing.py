"""Probing a model: tallies by hand, planted variables, controls that must fail, words that follow the numbers, bad input."""

import dataclasses
import json
import os
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from interp_jax import taps
from interp_jax.activations.moment_harvest import Labelled, one_hot
from interp_jax.data import tokenizer_io
from interp_jax.data.corpus_io import train_tokenizer
from interp_jax.data.probing.variables import Annotated, Variable, known
from interp_jax.errors import InputError
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.job import run_job
from interp_jax.experiments.probing import blocks, erasers, erasing, examples, models, runs, use, words
from interp_jax.experiments.probing.claims import Claim, one_survives, survives
from interp_jax.experiments.probing.config import Config, Data, Reading, Use
from interp_jax.experiments.probing.findings import above_random, finding, view_of
from interp_jax.experiments.probing.models import UNTRAINED, Place
from interp_jax.experiments.probing.reading import CONTROLS, Tallies, fold_of_group, read, with_constants
from interp_jax.experiments.probing.rows import Rows, rows_of, splits_of
from interp_jax.experiments.probing.tallies import Score, balanced_accuracy, difference, mean_of
from interp_jax.experiments.subjects.model import Model, Subject, subject_of
from interp_jax.experiments.sweep import expand
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import stack
from interp_jax.probes.controls import DIRECTION, SHUFFLED, TRUE, TYPES
from interp_jax.probes.erasure.eraser import edit_of, ranks
from interp_jax.results.run_directory import finished_members
from interp_jax.train.language import next_token_losses

FILE = load_file(CONFIGS / "probing.py")
READING = Reading(rows=0, folds=3, bins=2, shrinkages=(1e-2,))


# ------------------------------------------------------------------------------------------------- tallies


def test_balanced_accuracy_is_the_mean_of_recalls():
    rng = np.random.default_rng(0)
    group, label = rng.integers(0, 5, 300), rng.choice(3, 300, p=[0.7, 0.2, 0.1])
    right = rng.random(300) < 0.4 + 0.2 * label
    count = lambda which: np.array([[(which & (group == g) & (label == c)).sum() for c in range(4)] for g in range(5)])
    found = balanced_accuracy(count(right), count(np.ones(300, bool)))
    recalls = [right[label == c].mean() for c in range(3)]
    assert float(found.mean) == pytest.approx(np.mean(recalls)) and found.low < found.mean < found.high
    jackknife = []  # what the accuracy is without one group, from which the same interval follows to first order
    for g in range(5):
        rest = group != g
        jackknife.append(np.mean([right[rest & (label == c)].mean() for c in range(3)]))
    spread = np.sqrt(4 / 5 * np.square(np.array(jackknife) - np.mean(jackknife)).sum())
    assert found.of_group.std(ddof=1) / np.sqrt(5) == pytest.approx(spread, rel=0.15)
    nothing = difference(found, found)
    assert nothing.mean == nothing.low == nothing.high == 0


def test_intervals_cover_where_tokens_of_a_document_go_together():
    """2,000 draws of 30 documents of 20 tokens in two classes, with a rate of its own for each document and class."""
    rng = np.random.default_rng(1)
    totals = rng.integers(2, 20, (2000, 30, 2))
    hits = rng.binomial(totals, rng.beta([6, 3], [2, 3], (2000, 30, 2)))
    found = balanced_accuracy(hits, totals)
    covered = int(((found.low < 0.625) & (found.high > 0.625)).sum())
    assert scipy.stats.binomtest(covered, 2000, 0.95).pvalue > 1e-3, covered
    rate, n = hits.sum(1) / totals.sum(1), totals.sum(1)
    naive = 1.96 * np.sqrt((rate * (1 - rate) / n).sum(-1)) / 2  # as if tokens were independent: far too short
    assert (np.abs(rate.mean(-1) - 0.625) < naive).mean() < 0.85


def test_a_mean_in_groups_is_the_mean():
    found = mean_of(np.array([2.0, 3.0, 10.0]), np.array([2, 1, 5]))
    assert float(found.mean) == pytest.approx(15 / 8)


# ------------------------------------------------------------------------------------------------- rows


def annotated(rng, n_windows=60, length=8):
    """Windows of random tokens with a variable that the token settles, one that it does not, and one that has a rare value."""
    tokens = rng.integers(0, 9, (n_windows, length)).astype(np.int32)
    free = rng.integers(0, 2, tokens.shape).astype(np.int32)
    rare = np.where(rng.random(tokens.shape) < 0.5, 0, 1).astype(np.int32)
    rare[0, 0] = 2
    rare[:, -1] = -1
    labels = {"token": (tokens % 2).astype(np.int32), "free": free, "rare": rare}
    yes_no = Variable(("no", "yes"), "a variable")
    variables = {"token": yes_no, "free": yes_no, "rare": Variable(("a", "b", "c"), "with a rare value")}
    group = (np.arange(n_windows) // 4).astype(np.int32)
    names = tuple(f"document {g}" for g in range(group.max() + 1))
    return Annotated(tokens, np.arange(length, dtype=np.int32)[None], labels, variables, group, names, (), "windows")


def test_rows_have_the_labels_of_their_tokens():
    data = annotated(np.random.default_rng(0))
    rows = rows_of(data, Reading(rows=200, bins=3), 0)
    assert len(np.unique(rows.index)) == 200 and list(rows.variables) == ["token", "free", "rare"]
    np.testing.assert_array_equal(rows.token, data.tokens.ravel()[rows.index])
    np.testing.assert_array_equal(rows.labels[1], data.labels["free"].ravel()[rows.index])
    np.testing.assert_array_equal(rows.group, data.group[rows.index // 8])
    assert rows.variables["rare"].values == ("a", "b") and "'c' is the value of" in rows.left_out[0]
    assert (rows.labels[2][rows.index % 8 == 7] == -1).all()
    position = rows.index % 8
    for k, name in enumerate(rows.bins):
        low, high = (int(end) for end in (name.split("–") * 2)[:2])
        assert ((position[rows.bin == k] >= low) & (position[rows.bin == k] <= high)).all()
    assert not np.array_equal(rows.index, rows_of(data, Reading(rows=200), 1).index)


def test_too_few_groups_or_values_are_named():
    data = annotated(np.random.default_rng(0), 8)
    with pytest.raises(
        InputError, match=r"windows: the tokens that are read are of 2 groups, fewer than reading.folds = 3"
    ):
        rows_of(data, READING, 0)
    one = data._replace(
        labels={"free": np.zeros_like(data.tokens)},
        variables={"free": data.variables["free"]},
        group=np.arange(8, dtype=np.int32),
    )
    with pytest.raises(
        InputError, match=r"no variable has two values that can be told apart: free: 'yes' is the value of 0"
    ):
        rows_of(one, READING, 0)


def test_a_variable_that_a_fit_cannot_see_is_left_out():
    """A value, or all numbers but one, of two groups: in some of the draws both are in the fold that is held out."""
    data = annotated(np.random.default_rng(0))
    here = np.isin(data.group, (0, 1))[:, None]
    labels = {"rare": np.where(here, data.labels["free"], 0), "number": np.float32(np.where(here, data.tokens, 2))}
    variables = {"rare": Variable(("no", "yes"), ""), "number": Variable((), "")}
    rows = rows_of(data._replace(labels=data.labels | labels, variables=data.variables | variables), READING, 0)
    assert list(rows.variables) == ["token", "free"]
    told = r"has {} in the \d+ examples to be fitted on without fold \d of seed \d+: groups that have it are too few"
    for name, what in (("rare", "one class only"), ("number", "the same number")):
        assert re.search(f"^{name} {told.format(what)}", "\n".join(rows.left_out), re.MULTILINE)


# ------------------------------------------------------------------------------------------------- reading


@pytest.fixture(scope="module")
def planted():
    """Tallies of two places: at the first the token alone is there, at the second "free" is, too."""
    rng = np.random.default_rng(2)
    data = annotated(rng, 150)
    rows = rows_of(data, READING, 0)
    embedding = rng.normal(size=(9, 12))[rows.token]
    there = (
        embedding + 4 * np.outer(rows.labels[1] - 0.5, np.eye(12)[0]) + 0.5 * rng.normal(size=(len(rows.index), 12))
    )
    x = np.stack([embedding + 1e-3 * rng.normal(size=embedding.shape), there]).astype(np.float32)
    places = [Place("a", 0, "first"), Place("a", 1, "second")]
    return rows, read(list(jnp.asarray(x)), rows, places, READING, splits_of(rows.group, READING, 0), 0)


def test_what_is_planted_is_read_where_it_is_and_controls_are_not(planted):
    _, found = planted
    accuracy = balanced_accuracy(found.hits.sum((0, -2)), found.totals.sum((0, -2)))
    of = lambda place, variable, control: float(accuracy.mean[place, variable, CONTROLS.index(control)])
    assert of(0, 0, TRUE) > 0.95 and of(1, 1, TRUE) > 0.9
    for place, variable in ((0, 1), (0, 2), (1, 2)):  # nothing is there
        assert abs(of(place, variable, TRUE) - 0.5) < 0.08
    assert all(abs(of(place, v, SHUFFLED) - 0.5) < 0.08 for place in (0, 1) for v in range(3))
    assert of(0, 1, TYPES) > 0.95  # the control task is learned by heart from embeddings
    assert of(1, 1, DIRECTION) < of(1, 1, TRUE)


def test_a_place_where_nothing_varies_is_a_constant(planted):
    _, found = planted
    both = with_constants(Tallies(*(part[:, 1:] for part in found)), np.array([False, True]), np.zeros(3, bool))
    accuracy = balanced_accuracy(both.hits.sum((0, -2)), both.totals.sum((0, -2)))
    np.testing.assert_allclose(accuracy.mean[0, :, 0], 0.5)
    np.testing.assert_array_equal(both.hits[:, 1], found.hits[:, 1])
    np.testing.assert_array_equal(both.totals[:, 0, :, 0], found.totals[:, 0, :, 0])


def test_tallies_count_every_token_that_has_a_label(planted):
    rows, found = planted
    for v in range(3):
        for c in range(2):
            for k in range(len(rows.bins)):
                there = (rows.labels[v] == c) & (rows.bin == k)
                expected = np.bincount(rows.group[there], minlength=rows.group.max() + 1)
                np.testing.assert_array_equal(found.totals[:, 0, v, 0, :, k, c], [expected] * READING.orders)
    assert (found.hits <= found.totals).all() and found.totals[..., 2:].sum() == 0


def test_numbers_are_read_beside_classes_and_what_is_told_of_them_is_their_r2():
    rng = np.random.default_rng(7)
    data = annotated(rng, 100)
    x = rng.normal(size=(800, 12))
    number, absent = 3 * x[:, 0] + 40 + rng.normal(size=800), rng.normal(size=800)
    absent[rng.random(800) < 0.2] = np.nan
    new = {"number": number, "absent": absent}
    data = data._replace(
        labels=data.labels | {name: np.float32(y.reshape(100, 8)) for name, y in new.items()},
        variables={"number": Variable((), ""), **data.variables, "absent": Variable((), ""), "same": Variable((), "")},
    )
    data.labels["same"] = np.ones((100, 8), np.float32)
    rows = rows_of(data, READING, 0)
    assert (
        list(rows.variables) == ["token", "free", "rare", "number", "absent"] and "same: 800 of" in rows.left_out[-1]
    )
    np.testing.assert_array_equal(rows.of("number"), np.float32(number))
    np.testing.assert_array_equal(rows.of("free"), data.labels["free"].ravel())
    places = [Place("a", 0, "first"), Place("a", 1, "second")]
    both = jnp.asarray(np.stack([x, 7 * x + 5]), jnp.float32)
    found = read(list(both), rows, places, READING, splits_of(rows.group, READING, 0), 0)
    score = balanced_accuracy(found.hits.sum((0, -2)), found.totals.sum((0, -2)))
    assert score.mean[0, 3, 0] == pytest.approx(1 - 1 / number.var(), abs=0.03) and score.low[0, 3, 0] > 0.8
    assert abs(score.mean[0, 4, 0]) < 0.06 and (np.abs(score.mean[:, 3, CONTROLS.index(SHUFFLED)]) < 0.06).all()
    np.testing.assert_allclose(score.mean[0, 3:], score.mean[1, 3:], atol=1e-4)  # scales and means are no matter
    there = np.isfinite(absent)
    spread = np.where(there, absent - absent[there].mean(), 0) ** 2
    expected = np.bincount(rows.group, spread)
    np.testing.assert_allclose(found.totals[3, 0, 4, 0].sum((-2, -1)), expected, rtol=1e-4)
    assert (found.totals[:, :, 3:, :, :, :, 1:] == 0).all()
    constant = with_constants(Tallies(*(part[:, 1:] for part in found)), np.array([False, True]), np.arange(5) > 2)
    assert (constant.hits[:, 0, 3:] == 0).all() and (constant.hits[:, 0, :3, ..., 0] > 0).any()


def test_places_of_other_widths_are_read_beside_the_embeddings(planted):
    """Each width is a program of its own; their order is that of the places. Sites with heads have them side by side."""
    rows, _ = planted
    rng = np.random.default_rng(9)
    narrow, wide = (jnp.float32(rng.normal(size=(len(rows.index), width))) for width in (4, 20))
    there = wide.at[:, 0].add(8 * (rows.labels[1] - 0.5))
    splits, places = splits_of(rows.group, READING, 0), [Place("a", n, f"{n}") for n in range(4)]
    got = read((wide, narrow, there, narrow + 1), rows, places, READING, splits, 0)
    accuracy = balanced_accuracy(got.hits.sum((0, -2)), got.totals.sum((0, -2))).mean[:, 1, CONTROLS.index(TRUE)]
    assert accuracy[2] > 0.95 and (np.abs(accuracy[[0, 1, 3]] - 0.5) < 0.08).all()
    alone = read((narrow,), rows, places[1:2], READING, splits, 0)
    np.testing.assert_array_equal(got.hits[:, 1], alone.hits[:, 0])
    cfg = TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_head=4, d_mlp=24, d_vocab=11, n_context=9)
    config = Config(reading=Reading(sites=("blocks.mlp.post", "blocks.attn.q")))
    places = models.places_of(config, Subject("a model", cfg, None))
    params, tokens = transformer.init(jax.random.key(0), cfg), np.random.default_rng(0).integers(0, 11, (2, 3, 9))
    index = np.array([0, 10, 53])
    x = models.activations(params, jnp.asarray(tokens), jnp.arange(9) + 0 * tokens, jnp.asarray(index), cfg, places)
    assert [one.shape for one in x] == [(3, 16), (3, 24), (3, 8), (3, 24), (3, 8)]
    _, acts = taps.record(lambda p, t: transformer.stream(p, t, cfg), ["blocks.attn.q"])(params, tokens.reshape(6, 9))
    np.testing.assert_allclose(x[4], acts["blocks.attn.q"][1].reshape(54, 8)[index], atol=1e-5)


# ------------------------------------------------------------------------------------------------- use

CFG = TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_head=8, d_vocab=11, n_context=9)


def test_an_eraser_leaves_nothing_linear_and_takes_as_many_directions_as_its_controls():
    rng = np.random.default_rng(3)
    labels = rng.integers(-1, 3, 400)
    x = rng.normal(size=(400, 16)) @ rng.normal(size=(16, 16)) + 2 * rng.normal(size=(4, 16))[labels]
    found = erasers.erasers(jnp.asarray(x, jnp.float32), labels, 3, 2, 0)
    assert found.rank == 2 and len(found.each) == 3 and 0 < found.taken_at_random < found.taken < 1
    known, one_hot = labels >= 0, labels[:, None] == np.arange(3)
    for n, eraser in enumerate(found.each):
        y = x - (x - eraser.centre) @ eraser.read @ eraser.write
        left = np.linalg.norm(np.cov(y[known].T, one_hot[known].T)[:16, 16:])
        assert (left < 1e-5) == (n == 0)
        np.testing.assert_allclose(eraser.write @ eraser.read, np.eye(3)[:, :3] * (np.arange(3) < 2), atol=1e-6)


def test_losses_with_an_edit_are_those_of_a_model_that_is_edited_by_hand():
    params = transformer.init(jax.random.key(0), CFG)
    tokens = jax.random.randint(jax.random.key(1), (3, 9), 0, 11)
    rng = np.random.default_rng(4)
    own = [
        erasers.erasers(jnp.asarray(rng.normal(size=(50, 16)), jnp.float32), rng.integers(0, 2, 50), 2, 2, 0).each
    ] * 2
    clean, edited = use.token_losses_under(params, tokens, "blocks.resid_post", np.array([0, 1]), own, CFG)
    np.testing.assert_allclose(clean, next_token_losses(params, tokens, CFG), atol=1e-5)
    assert edited.shape == (3, 2, 3, 8)
    x = transformer.stream(params, tokens[:, :-1], CFG)
    for e, eraser in enumerate(own[1]):  # the last layer's stream is what the logits are made of
        y = x - ((x - eraser.centre) @ eraser.read @ eraser.write).astype(np.float32)
        logits = np.asarray(transformer.unembed(params, y, CFG), np.float64)
        losses = (
            np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.asarray(tokens)[:, 1:, None], -1)[..., 0]
        )
        np.testing.assert_allclose(edited[e, 1], losses, atol=1e-4)


def test_scrubbers_leave_nothing_linear_at_any_layer_and_their_controls_do():
    params = jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(0), CFG))
    tokens = np.random.default_rng(6).integers(0, 11, (60, 9))
    labels = np.where(tokens > 1, tokens % 3, -1)
    parts = [slice(0, 30), slice(30, 60)]
    windows = [Labelled(tokens[i], one_hot(labels[i], 4), np.float32(labels[i] >= 0)) for i in parts]
    made = use.scrubbers(params, windows, "blocks.resid_post", CFG, 2, 0)
    known, z = labels >= 0, one_hot(labels, 3)
    left = []
    for eraser in made:
        model = partial(taps.edit(use.stream_of(CFG)), {"blocks.resid_post": edit_of(eraser)})
        _, acts = taps.record(model, ["blocks.resid_post"])(params, tokens)
        x = np.asarray(acts["blocks.resid_post"], np.float64)[:, known]
        left.append([np.abs(np.cov(own.T, z[known].T)[:16, 16:]).max() / own.std(0).max() for own in x])
    assert max(left[0]) < 1e-5 and min(left[1] + left[2]) > 1e-3
    assert all(ranks(one).tolist() == [2, 2] for one in made) and not np.allclose(made[1].read, made[2].read)


# ------------------------------------------------------------------------------------------------- the whole


def job(config, directory, **overrides):
    values = {"output.directory": str(directory), **{key: str(value) for key, value in overrides.items()}}
    return run_job(f"{config}", values, ("none",), False, "./launch/local …", Console(file=open(os.devnull, "w")))


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    """The report about the induction circuit built by hand, and what was observed."""
    report = job(f"{CONFIGS}/probing.py:tiny", tmp_path_factory.mktemp("probing"))
    (place,) = finished_members(report.parent).values()
    seen = {name: value[0] for name, value in place.directory.observations()[1].items()}
    return report.read_text(), seen


def asked_of(rng, cfg, eraser="leace"):
    """Windows of random tokens, of which one variable is the token's own."""
    data = annotated(rng)
    config = Config(reading=READING, use=Use(windows=60, draws=3, eraser=eraser))
    subject = Subject("a model", cfg, None)
    rows = rows_of(data, READING, 0)
    return erasing.Asked(config, subject, data, rows, models.places_of(config, subject))


@pytest.mark.parametrize("kind", erasers.KINDS)
def test_each_eraser_is_measured_in_a_transformer_beside_its_control(kind):
    """Of one layer: losses are those of a stream that is changed by hand, and the token costs more than what is not there."""
    cfg = dataclasses.replace(CFG, n_layers=1)
    params = jax.tree.map(lambda w: 2 * w, transformer.init(jax.random.key(0), cfg))
    asked = asked_of(np.random.default_rng(0), cfg, kind)
    x, tokens = runs.harvest(params, asked), asked.data.tokens
    found = erasing.erase(params, x, asked, [(1, 0), (1, 1)], 0)
    assert found.sums.shape == (2, 4, 2, 15) and np.isfinite(found.sums).all() and 0 < found.taken[0] < 1
    stream = np.asarray(transformer.stream(params, tokens[:, :-1], cfg), np.float64)
    made = erasing.made_of(x[1], 0, 0, asked, 0, erasing.swaps(params, asked) if kind == "interchange" else {})
    rise = []
    for edit in made.each[:2]:
        centre = np.roll(stream, len(stream) // 2, 0) if kind == "interchange" else None  # of another window
        logits = transformer.unembed(params, jnp.float32(changed_by(edit, stream, kind, centre)), cfg)
        logp = np.asarray(jax.nn.log_softmax(logits))
        rise.append(-np.take_along_axis(logp, tokens[:, 1:, None], 2)[..., 0])
    clean = next_token_losses(params, jnp.asarray(tokens), cfg)
    want = [(each - clean)[asked.data.group == 3].sum() for each in rise]
    np.testing.assert_allclose(found.sums[0, :2, 0, 3], want, atol=2e-3)
    if kind in ("leace", "orthogonal", *erasers.TOLD):  # nothing is left in the means of classes
        odd = (tokens[:, :-1] % 2).astype(bool)
        left = changed_by(made.each[0], stream, kind)
        apart = [np.linalg.norm(y[odd].mean(0) - y[~odd].mean(0)) for y in (stream, np.asarray(left))]
        assert apart[1] < 0.6 * apart[0]  # of tokens at these positions, beside those that it was fitted to


def changed_by(edit, stream, kind, centre=None):
    """The stream after an eraser, or after edits that are told."""
    if kind in erasers.TOLD:
        edits = tuple(e.replace(layer=None) for e in edit)
        return taps.edit(lambda x: taps.tap(x, "a"))({"a": edits}, jnp.float32(stream))
    return stream - (stream - (edit.centre if centre is None else centre)) @ edit.read @ edit.write


def test_classes_that_must_be_told_are_not_numbers():
    asked = asked_of(np.random.default_rng(0), CFG, "transport")
    erasing.check_eraser(asked)
    assert not erasing.can_scrub(asked) and erasing.can_scrub(asked_of(np.random.default_rng(0), CFG, "inlp"))
    variables = asked.rows.variables | {"column": Variable((), "")}
    with pytest.raises(InputError, match="use.eraser = 'transport': 'column' is a number; give data.variables"):
        erasing.check_eraser(asked._replace(rows=asked.rows._replace(variables=variables)))


def test_padding_on_the_right_does_not_count(monkeypatch):
    """Losses under edits are summed over the same tokens as those of each window alone, without its padding."""
    data = annotated(np.random.default_rng(0))
    lengths = np.random.default_rng(1).integers(3, 9, 60)
    positions = np.where(np.arange(8) < lengths[:, None], np.arange(8), -1).astype(np.int32)
    labels = {name: np.where(positions >= 0, x, -1) for name, x in data.labels.items()}
    data = data._replace(positions=positions, labels=labels)
    cfg = dataclasses.replace(CFG, n_layers=1)
    config = Config(reading=READING, use=Use(windows=60, draws=2))
    rows, params = rows_of(data, READING, 0), transformer.init(jax.random.key(0), cfg)
    subject = Subject("a model", cfg, None)
    asked = erasing.Asked(config, subject, data, rows, models.places_of(config, subject))
    assert erasing.can_erase(asked)
    assert not erasing.can_erase(asked._replace(data=data._replace(positions=positions[:, ::-1])))
    assert erasing.counts(asked)[0, 0].sum() == (lengths - 1).sum()
    x = runs.harvest(params, asked)
    found = erasing.erase(params, x, asked, [(1, 1)], 0)
    eraser = erasers.erasers(x[1], rows.of("free"), 2, 2, 0).each
    want = 0.0
    for row, n in zip(data.tokens[data.group == 3], lengths[data.group == 3], strict=True):
        one, edited = use.token_losses_under(
            params, jnp.asarray(row[None, :n]), "blocks.resid_post", np.zeros(1, int), [eraser], cfg
        )
        want = want + (edited - one)[:, 0].sum((-2, -1))
    np.testing.assert_allclose(found.sums[0, :, 0, 3], want, atol=1e-4)


@pytest.mark.slow
def test_what_is_read_off_positions_is_not_learned(circuit):
    """The circuit's stream begins with one number for each position, so a late token is known to have been seen before."""
    html, seen = circuit
    assert seen["steps"].tolist() == [-1, 0]
    about = json.loads(str(seen["about"]))
    assert list(about["variables"]) == [
        "token before",
        "two before",
        "seen before",
        "distance",
        "copied next",
        "tokens back",
    ]
    assert any("features of x are constant" in line for line in about["left_out"])
    accuracy = balanced_accuracy(seen["hits"].sum(-2), seen["totals"].sum(-2))
    assert accuracy.mean[1, 0, 2, 0] > 0.75  # at the embeddings
    assert (
        "seen before: read best at" in html
        and "It does not survive its controls: the token alone tells as much" in html
    )
    assert np.isfinite(seen["use.sums"]).all() and seen["use.sums"].shape[1:3] == (5, 2)
    assert np.isfinite(seen["use.scrubbed"]).all() and seen["use.scrubbed"].shape[:3] == (6, 5, 2)
    assert "Read above what the token alone tells and above the twin: token before." in html
    assert "by what erasing costs above erasing at random: token before." in html
    assert re.search("What does not survive its controls: [^.]*seen before", html)
    assert "NaN" not in html.partition("<script")[0]


def made_up(accuracy, use_sums=None, groups=12, orders=19):
    """A group of one run with one variable at two places, of a twin and a model, from accuracies [M S T] on some documents."""
    totals = np.full((2, 2, 1, 4, groups, 1, 2), 100 * orders)
    wobble = np.resize([-2, -1, 0, 0, 1, 2], groups)[:, None, None]
    hits = np.round(100 * np.array(accuracy)[:, :, None, :, None, None, None] + wobble).clip(0, 100) + np.zeros(2)
    noise = 1e-3 * np.random.default_rng(0).normal(size=(orders, 2, 1, 4))
    about = {
        "model": "m", "title": "m", "places": ["embeddings", "layer 0"], "variables": {"depth": [["0", "1"], "what it is"]},
        "bins": ["0–9"], "source": "text", "windows": [6, 10], "rows": 60, "groups": groups, "left_out": ["one thing"],
        "windows_of_use": 6 if use_sums else 0, "told": {"depth": "0: 30, 1: 30"}, "tokens": 9, "width": 7,
    }  # fmt: skip
    seen = {"hits": hits * orders, "totals": totals, "steps": np.array([-1, 500]), "best": np.array([1])}
    seen |= {
        "drawn": hits[:, None, :, :, 0].sum(-2),
        "fold": np.arange(groups)[None] % 2,
        "there": np.full((1, groups, 2), 100),
        "figures": np.array(accuracy)[-1, None, :, None] + noise,
        "about": np.array(json.dumps(about)),
    }
    if use_sums:
        sums = np.array(use_sums, float)[:, None, None] * np.array([9, 10, 10, 10, 10, 11.0])
        sums = sums + np.zeros((len(use_sums), 2, 1))
        seen |= {
            "use.place": np.array([1]),
            "use.variable": np.array([0]),
            "use.sums": sums[None],
            "loss": np.array([2.0]),
        }
        seen |= {"use.counts": np.full((1, 2, 6), 10.0), "use.along": sums[None, None], "use.rank": np.array([1])}
        seen |= {"use.taken": np.array([0.1]), "use.taken_at_random": np.array([0.05])}
    config = stack([Config()])
    return GroupResult(
        config, ("a",), np.array([-1]), {1: {k: v[None] for k, v in seen.items()}}, {}, np.array([]), (), [1.0]
    )


FLAT = [0.55, 0.55, 0.5, 0.5]  # labels, control task, shuffled, direction
LEARNED = [[FLAT, FLAT], [FLAT, [0.9, 0.6, 0.5, 0.5]]]


@pytest.mark.parametrize(
    ("accuracy", "sums", "said", "verdict"),
    [
        (LEARNED, [2.0, 0.5, 0.6], ["It survives every control.", "It is used: erasing"], "learned, used"),
        (LEARNED, [0.5, 0.5, 0.6], ["It survives every control.", "Use is not shown"], "learned"),
        (
            [[FLAT, [0.9] * 4], LEARNED[1]],
            [2.0, 0.5, 0.6],
            ["It says nothing about use that erasing"],
            "read, not learned",
        ),
        (LEARNED, None, ["Whether it is used was not measured."], "learned"),
        (
            [[FLAT, FLAT], [FLAT, [0.9, 0.95, 0.5, 0.5]]],
            None,
            ["is not selective: the probe learns random labels of tokens as well (0.950"],
            "learned, not selective",
        ),
        (
            [[FLAT, [0.9] * 4], [FLAT, [0.9, 0.6, 0.5, 0.5]]],
            None,
            ["random weights is read as well (0.9"],
            "read, not learned",
        ),
        (
            [[FLAT, FLAT], [[0.9] * 4, [0.9, 0.6, 0.5, 0.5]]],
            None,
            ["the token alone tells as much (0.9"],
            "read, not learned",
        ),
        ([[FLAT, FLAT], [FLAT, [0.5] * 4]], None, ["shuffled labels are read as well (0.5"], "not read"),
    ],
)
def test_words_follow_the_numbers(accuracy, sums, said, verdict):
    view = view_of(made_up(accuracy, sums))
    found = finding(view, 0)
    sentence = words.sentence(found, view)
    assert all(part in sentence for part in said), sentence
    assert words.verdict(found) == verdict
    assert float(found.accuracy.mean) == pytest.approx(accuracy[1][1][0])
    learned = verdict.startswith("learned")
    assert ("above the twin: depth." in words.summary(view)) == learned
    assert ("does not survive its controls: depth" in words.summary(view)) == (not learned)
    assert len(blocks.use_blocks(view)) == (4 if sums else 1)
    if sums:
        assert words.first_steps(view, 0) == (500 if learned else None, 500 if learned and sums[0] > 1 else None)


def test_what_is_not_read_yet_is_not_used_whatever_erasing_costs(monkeypatch):
    """Of three models the second and third are read; erasing costs something in the first and third, then in all."""
    for cost, used in (([0.1, -0.1, 0.2], 30), ([0.1, 0.1, 0.1], 20)):
        monkeypatch.setattr(words, "above_twin", lambda view, v, m: m)
        monkeypatch.setattr(words, "survives", lambda claim: claim > 1)
        costs = Claim(Score(*[np.array(cost)] * 3, np.zeros((3, 1))), np.where(np.array(cost) > 0, 0.02, 0.9))
        monkeypatch.setattr(words, "reliance_along", lambda view, v, which, costs=costs: costs)
        view = view_of(made_up(LEARNED, None))._replace(steps=[UNTRAINED, 10, 20, 30])
        assert words.first_steps(view, 0) == (20, used)


N_THERE, N_BY_DOCUMENT, N_BY_KIND = 3, 25, 20


@pytest.fixture(scope="module")
def equals():
    """What is found of two models that are read equally well, of many variables, in each of four draws.

    The first variables are in both models. Of the next each document has values of its own, of which there is nothing in
    either; the last are functions of the token's kind, drawn as the control task's are.
    """
    rng, found = np.random.default_rng(5), []
    document, n = np.repeat(np.arange(40), 6), N_THERE + N_BY_DOCUMENT + N_BY_KIND
    reading = Reading(rows=0, folds=3, bins=1, shrinkages=(1e-1,))
    places = [Place("a", i, f"{i}") for i in range(3)]
    yes_no = {f"v{v}": Variable(("no", "yes"), "") for v in range(n)}
    about = {
        "title": "m", "places": ["embeddings", "layer 0", "layer 1"], "bins": ["0"], "tokens": 30, "width": 8,
        "windows_of_use": 0,
        "variables": {name: [["no", "yes"], ""] for name in yes_no},
    }  # fmt: skip
    for _ in range(4):
        kind = rng.integers(0, 30, 240)
        often = rng.beta(2, 2, (n - N_BY_KIND, 40))[:, document]
        of_kind = rng.integers(0, 2, (N_BY_KIND, 30))[:, kind]
        labels = np.concatenate([rng.random(often.shape) < often, of_kind]).astype(np.int32)
        rows = Rows(
            np.arange(240),
            kind,
            document,
            np.zeros(240, np.int32),
            labels,
            np.zeros((0, 240), np.float32),
            yes_no,
            ("0",),
            (),
        )
        splits, tallies = splits_of(rows.group, reading, 0), {}
        for model in (models.UNTRAINED, 0):
            of_document, embedding = rng.normal(size=(3, 40, 8))[:, document], rng.normal(size=(30, 8))[kind]
            x = of_document + embedding + rng.normal(size=(3, 240, 8))
            x[1:, :, :N_THERE] += 1.5 * (2 * labels[:N_THERE].T - 1)
            tallies[model] = read(list(jnp.asarray(x, jnp.float32)), rows, places, reading, splits, 0)
        seen = runs.kept(list(tallies.values()), fold_of_group(rows, splits)[:2])
        seen |= {
            "steps": np.array(list(tallies)),
            "best": runs.best_places(tallies[0]),
            "about": np.array(json.dumps(about)),
        }
        observed = {1: {name: value[None] for name, value in seen.items()}}
        group = GroupResult(stack([Config()]), ("a",), np.array([-1]), observed, {}, np.array([]), (), [1.0])
        found.append([finding(view_of(group), v) for v in range(n)])
    return found


def called_too_often(called, of):
    """Whether more than 5% are called, by an exact test."""
    return scipy.stats.binomtest(int(sum(called)), len(of), 0.05, "greater").pvalue < 1e-3


def test_where_there_is_no_signal_the_words_say_so_at_the_stated_rate(equals):
    """Not more than 5% of what is not there is called read; by whether the interval lies above 0, twice as much would be."""
    nothing = [f for each in equals for f in each[N_THERE:-N_BY_KIND]]
    assert not called_too_often([words.verdict(f) != "not read" for f in nothing], nothing)
    by_interval = sum(float(f.above_noise.above.low) > 0 for f in nothing)
    assert scipy.stats.binomtest(by_interval, len(nothing), 0.05, "greater").pvalue < 0.01
    assert all(words.verdict(f) != "not read" for each in equals for f in each[:N_THERE])


def test_what_a_twin_has_as_well_is_not_called_learned_and_what_a_control_task_is_is_not_called_selective(equals):
    every = [f for each in equals for f in each]
    for claim in ("learned", "above_token"):
        assert not called_too_often([survives(getattr(f, claim)) for f in every[N_THERE:]], every[N_THERE:]), claim
    functions = [f for each in equals for f in each[-N_BY_KIND:]]
    assert not called_too_often([survives(f.selectivity) for f in functions], functions)
    assert np.mean([survives(f.above_noise) for f in functions]) > 0.5


def test_what_is_not_used_is_not_called_used_by_any_of_three_looks():
    """Erasing it costs what erasing another direction does, in 2,000 draws; looks at one of them go together."""
    rng, n = np.random.default_rng(8), 2000
    direction, counts = rng.normal(size=(n, 11, 1)), np.full(12, 10.0)
    looks = []
    for _ in range(3):
        costs = direction + 0.5 * rng.normal(size=(n, 11, 1)) + 0.5 * rng.normal(size=(n, 11, 12))
        looks.append(above_random(10 * costs, counts))
    called = one_survives([*looks, None])
    assert not called_too_often(called, called) and called.mean() > 0.01
    assert (
        np.any([claim.above.low > 0 for claim in looks], axis=0).mean() > 0.2
    )  # by intervals of what these very ones cost
    assert not one_survives([None, None])


def test_few_tokens_have_no_control_task():
    group = made_up(LEARNED)
    (seen,) = group.observations.values()
    about = json.loads(str(seen["about"][0])) | {"tokens": 8}
    seen["about"] = np.array([json.dumps(about)])
    view = view_of(group)
    assert finding(view, 0).selectivity is None and words.verdict(finding(view, 0)) == "learned"
    assert "has any labels of theirs by heart" in words.sentence(finding(view, 0), view)
    assert "selective" not in words.summary(view)


def test_steps_from_which_on_something_holds():
    assert words.since([False, True, True], [1, 10, 100]) == 10
    assert words.since([True, True, False], [1, 10, 100]) is None
    assert words.since([True], [5]) == 5 and words.since([], []) is None


# ------------------------------------------------------------------------------------------------- data and bad input


def reader(**changes):
    """A model with a tokenizer."""
    backend = train_tokenizer(["def f(a):\n    return (a, 'b')\n" * 9], 280)
    cfg = TransformerConfig(d_vocab=280, n_context=32, **changes)
    return Subject("a model", cfg, tokenizer_io.Tokenizer(backend, "words", 0, 0, None, (0,), ()))


def test_source_code_stands_behind_what_the_tokenizer_puts_before(monkeypatch):
    from interp_jax.data.text_io import Document

    text = "".join(f"def f{i}(a):\n    return (a, 'b')  # {i}\n" for i in range(40))
    monkeypatch.setattr(
        examples, "held_out_documents", lambda cfg: [Document("a.py", text), Document("b.py", text + "x = (")]
    )
    data = examples.labelled(Config(data=Data(windows=5)), reader())
    assert (
        data.tokens.shape == (5, 32) and (data.tokens[:, 0] == 0).all() and data.source == "Python's standard library"
    )
    assert all(labels.shape == (5, 32) and not known(labels[:, 0]).any() for labels in data.labels.values())
    assert len(data.left_out) == 1 and data.left_out[0].startswith("b.py, line")
    only = examples.labelled(Config(data=Data(windows=5, length=16, variables=("in string",))), reader())
    assert only.tokens.shape == (5, 17) and list(only.labels) == ["in string"]


def test_tasks_and_templates_are_asked_of_any_model_that_can_read_them():
    data = examples.labelled(Config(data=Data(task="induction", windows=40, length=12)), subject_of(Model()))
    assert len(data.tokens) == 40 and list(data.variables) == ["clean at A", "clean at B", "clean at END"]
    assert rows_of(data, READING, 0).variables["clean at A"].values == ("no", "yes")
    sequences = examples.labelled(Config(data=Data(task="sequences", windows=5)), reader())
    assert "token before" in sequences.variables and sequences.tokens.shape == (5, 32)
    with pytest.raises(InputError, match="template 'ioi' is text: give a tokenizer"):
        examples.labelled(Config(data=Data(task="ioi")), subject_of(Model()))


def test_what_folds_share_and_what_could_not_be_aligned_is_counted(monkeypatch):
    from interp_jax.data.text_io import Document

    text = "".join(f"def f{i}(a):\n    return (a, 'b')  # {i}\n" for i in range(40))
    documents = [Document("a.py", text), Document("b.py", text), Document("c.py", "x = (")]
    monkeypatch.setattr(examples, "held_out_documents", lambda cfg: documents)
    with pytest.warns(UserWarning) as said:
        data = examples.labelled(Config(data=Data(windows=1000)), reader())
    told = [str(one.message) for one in said]
    n = len(data.tokens)
    assert "Python's standard library: 1 documents are left out, such as c.py, line" in told[0]
    assert (
        f"{n} of {n} windows stand in several groups word for word, so folds share them, such as one of a.py"
        in told[1]
    )


def test_lines_of_another_distribution_stand_by_themselves(tmp_path):
    """What is read inside is the other way round elsewhere: fits do not see that, and its score is below a guess."""
    rng = np.random.default_rng(0)
    line = lambda i: {"text": f"def f(a): return {i}", "span": "f", "label": "ab"[i % 2]}
    split = lambda i: {"split": "elsewhere"} if i >= 160 else {}
    lines = [line(i) | split(i) | {"group": f"g{i // 4}"} for i in range(200)]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    data = examples.labelled(Config(data=Data(path=str(path))), reader())
    rows = rows_of(data, READING, 0)
    assert rows.elsewhere.sum() == 40 and rows.bins[-1] == "elsewhere" and rows.n_bins == len(rows.bins) - 1
    splits = splits_of(rows.group, READING, 0, rows.elsewhere)
    sign = np.where(rows.elsewhere, -1, 1) * (2 * rows.labels[0] - 1)
    x = rng.normal(size=(2, 200, 4)) + np.stack([np.zeros(200), 2 * sign])[:, :, None]
    tallies = {
        m: read(list(jnp.float32(x)), rows, [Place("a", n, f"{n}") for n in (0, 1)], READING, splits, 0)
        for m in (-1, 5)
    }
    seen = runs.kept(list(tallies.values()), fold_of_group(rows, splits)[:2], rows.n_bins)
    about = json.loads(str(next(iter(made_up(LEARNED).observations.values()))["about"][0]))
    about |= {"bins": rows.bins[: rows.n_bins], "variables": {"label": [["a", "b"], ""]}, "rows": 200, "groups": 50}
    seen |= {
        "steps": np.array([-1, 5]),
        "best": runs.best_places(tallies[5], rows.n_bins),
        "about": np.array(json.dumps(about)),
    }
    observed = {1: {name: value[None] for name, value in seen.items()}}
    view = view_of(GroupResult(stack([Config()]), ("a",), np.array([-1]), observed, {}, np.array([]), (), [1.0]))
    found = finding(view, 0)
    assert float(found.accuracy.mean) > 0.9 and float(found.elsewhere.mean) < 0.1
    assert len(found.accuracy.of_group) == 40 and len(found.elsewhere.of_group) == 10
    tables = [block.table for block in blocks.claim_blocks(view) if hasattr(block, "table")]
    assert tables[0].columns[-1] == "elsewhere"
    lines[170]["group"] = "g0"
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(
        InputError, match='line 171: has "split": "elsewhere", and .*line 1, of the same group, has none'
    ):
        examples.labelled(Config(data=Data(path=str(path))), reader())
    path.write_text(json.dumps(lines[0] | {"split": "there"}))
    with pytest.raises(InputError, match="split is \"there\", and must be 'elsewhere', or left out"):
        examples.labelled(Config(data=Data(path=str(path))), reader())


def test_what_cannot_be_is_named(tmp_path):
    for message, changes in {
        "steps = 2: nothing is trained": {"steps": 2},
        "data.windows = 1: must be at least 2": {"data": Data(windows=1)},
        "data.length = 1: must be at least 2": {"data": Data(length=1)},
        "reading.folds = 2: must be at least 3": {"reading": Reading(folds=2)},
        "reading.orders = 18: must be at least 19": {"reading": Reading(orders=18)},
        "reading.draws = 20: must be 1 to reading.orders = 19": {"reading": Reading(draws=20)},
        "reading.shrinkages = .*: must be 1 to 64 numbers above 0, at most 1": {"reading": Reading(shrinkages=(0.0,))},
        "reading.sites = .*: must be names of sites": {"reading": Reading(sites=())},
        "use.windows = 24 and use.draws = 1: must be at least 2": {"use": Use(draws=1)},
        "data.task = 'iou': did you mean 'ioi'": {"data": Data(task="iou")},
        "data.path = 'x' and data.task = 'ioi': give one": {"data": Data(task="ioi", path="x")},
        "use.eraser = 'lease': did you mean 'leace'": {"use": Use(eraser="lease")},
        "use.scrubbed = 1: must be at least 2, or 0": {"use": Use(scrubbed=1)},
    }.items():
        with pytest.raises(InputError, match=message):
            Config(**changes).check()
    subject = subject_of(Model())
    with pytest.raises(
        InputError, match="'blocks.resid_pst' is not a site of vectors .* did you mean 'blocks.resid_post'"
    ):
        models.places_of(Config(reading=Reading(sites=("blocks.resid_pst",))), subject)
    with pytest.raises(InputError, match="texts need a tokenizer, and its tokens are letters"):
        examples.labelled(Config(data=Data(path=str(tmp_path / "x.jsonl"))), subject)
    with pytest.raises(InputError, match="random segments that repeat has no variable 'depth'"):
        examples.labelled(Config(data=Data(variables=("depth",))), subject)
    with pytest.raises(InputError, match="data.length = 64: a model has room for 31 tokens"):
        examples.labelled(Config(data=Data(length=64)), reader())


def test_examples_of_a_person_are_read(tmp_path):
    lines = [
        {"text": f"def f(a): return {i}", "span": "f", "label": "ab"[i % 2], "group": f"g{i // 2}"} for i in range(8)
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = examples.labelled(Config(data=Data(path=str(tmp_path / "x.jsonl"))), reader())
    rows = rows_of(data, READING, 0)
    assert len(rows.index) == 8 and list(rows.variables) == ["label"] and sorted(set(rows.group)) == [0, 1, 2, 3]
    lines = [line | {"label": i / 4} for i, line in enumerate(lines)]
    (tmp_path / "y.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = rows_of(examples.labelled(Config(data=Data(path=str(tmp_path / "y.jsonl"))), reader()), READING, 0)
    assert rows.variables["label"].is_number and rows.of("label").tolist() == [i / 4 for i in range(8)]
    assert runs.spelled(rows.variables["label"], rows.of("label")).startswith(
        "8 numbers from 0 to 1.75, of mean 0.875"
    )


SMALL = {
    "steps": 3, "batch_size": 2, "model.d_model": 16, "model.n_heads": 2, "model.d_head": 8, "model.d_vocab": 260,
    "model.n_context": 24, "measure.observations": 2, "measure.windows": 2, "measure.snippet": 4, "measure.samples": 1,
    "measure.sample_length": 2, "data.held_out": 0.5,
}  # fmt: skip


@pytest.mark.slow
def test_a_grown_model_is_read_along_its_training(tmp_path):
    """From files to a report: every checkpoint, the twin, labels by Python's tokenize on the held-out files."""
    for i in range(12):
        text = "".join(f"def f{i}{j}(a, b=({j},)):\n    return [a, 'b{j}']  # c\n" for j in range(20))
        (tmp_path / "text" / f"{i}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "text" / f"{i}.py").write_text(text)
    where = {"data.path": tmp_path / "text", **SMALL}
    job(f"{CONFIGS}/grow.py", tmp_path / "grown", **where)
    report = job(f"{CONFIGS}/probing.py:tiny", tmp_path / "probed", **{"model.path": tmp_path / "grown"})
    (place,) = finished_members(report.parent).values()
    seen = {name: value[0] for name, value in place.directory.observations()[1].items()}
    assert seen["steps"].tolist() == [-1, 1, 3]
    assert seen["use.along"].shape[0] == 2 and len(seen["loss"]) == 2
    html = report.read_text()
    assert "When it becomes readable, and when used" in html and "bracket depth: read best at" in html
    assert str(tmp_path / "text") in html


def test_variants_are_valid():
    for arg in FILE.VARIANTS:
        assert len(expand(FILE.get_config(arg), FILE, ["seeds"])) == 3
