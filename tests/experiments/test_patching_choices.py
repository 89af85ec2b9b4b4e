"""What can be chosen of the patching experiment: the metric, how the other run differs, what is put in, and the estimates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.data.contrast.pairs import Pairs
from interp_jax.data.contrast.templates import template_pairs
from interp_jax.errors import InputError
from interp_jax.experiments import patching
from interp_jax.experiments.patching import causes, circuit, corruption, measure, task
from interp_jax.experiments.patching.cells import every_column
from interp_jax.experiments.patching.config import Config, Task
from interp_jax.experiments.patching.estimate_blocks import LABELS, agreement_data, agreement_text
from interp_jax.experiments.patching.measure import METRICS, metric_of
from interp_jax.experiments.patching.question import is_known
from interp_jax.experiments.patching.ranking import beside_random
from interp_jax.experiments.patching.routes import patch_routes
from interp_jax.experiments.patching.sources import mean_of_others, sources_of
from interp_jax.experiments.patching.view import view_of
from interp_jax.experiments.subjects.model import Model
from interp_jax.patching import metrics, prompts
from interp_jax.patching.attribution.agreement import agreement
from interp_jax.patching.attribution.estimates import attribute
from interp_jax.patching.attribution.integrated import Integrated
from interp_jax.patching.attribution.relevance import Relevance
from interp_jax.patching.exact import views
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.exact.random_parts import random_bases
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results.blocks import Section
from interp_jax.results.report import render
from tests.experiments.test_patching import RANDOM, SMALL, random_contrast, run_group, view_with

FALLING = ("loss", "kl", "rank")


def induction_pairs(n=6, length=9):
    return template_pairs("induction", 0, n, d_vocab=20, length=length)


def sections(page):
    return {block.heading: block.text for block in page.blocks if isinstance(block, Section)}


# --- metrics


def test_metrics_of_the_config_are_those_of_the_library():
    pairs = induction_pairs()
    logits = np.random.default_rng(0).normal(size=(2, 6, 20)).astype(np.float32)
    clean, other = map(jnp.asarray, logits)
    of = {name: np.asarray(metric_of(pairs, name, lambda: logits[0]).of(other)) for name in METRICS}
    p, answer = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), np.asarray(pairs.answers)[:, 0]
    at = np.arange(6), answer
    np.testing.assert_allclose(of["loss"], -np.log(p[1][at]), rtol=1e-5)
    np.testing.assert_allclose(of["log_probability"], -of["loss"], rtol=1e-6)
    np.testing.assert_allclose(of["kl"], (p[0] * np.log(p[0] / p[1])).sum(-1), rtol=1e-4)
    np.testing.assert_array_equal(of["rank"], (logits[1] > logits[1][at][:, None]).sum(-1))
    np.testing.assert_allclose(metric_of(pairs, "kl", lambda: logits[0]).of(clean), 0, atol=1e-6)
    with pytest.raises(InputError, match="metric = 'kl' compares with the clean runs: give their logits"):
        metric_of(pairs, "kl")


def test_names_that_decide_what_is_estimated_are_those_of_the_metrics():
    assert metrics.rank(np.zeros(2, int)).name == measure.NO_GRADIENT
    assert metrics.kl(np.zeros((2, 3), np.float32)).name == measure.FLAT_AT_CLEAN


@pytest.mark.parametrize("name", METRICS)
def test_an_effect_is_clear_where_the_clean_runs_do_better(name):
    """More of it, or less of it: the same shares, the same chain."""
    by_keys = [[[0, 0.6, 0], [0, 0.3, 0]], [[0, 0.8, 0.1], [0, 0.3, 0]]]
    rising = view_with(by_keys, [("previous", 0), ("induction", 2)])._replace(config=Config(metric=name))
    negative = {d: {n: -values for n, values in seen.items()} for d, seen in rising.effects.items()}
    falling = rising._replace(clean=rising.corrupted, corrupted=rising.clean, effects=negative)
    better, worse = (falling, rising) if name in FALLING else (rising, falling)
    assert better.is_clear and not worse.is_clear
    found = circuit.chain_of(better)
    assert found.is_induction and found.speakers[0].at_once["k"] == pytest.approx((0.6 / 1.015, 0.8 / 1.015), abs=0.02)
    assert "keys 59% restored and 79% lost" in circuit.sentence(better, found)
    side = "below that on corrupted ones beyond chance (it is lower by -" if name in FALLING else "above that on"
    assert circuit.chain_of(worse) is None and side in circuit.sentence(worse, None)


@pytest.fixture(scope="module")
def kl_after_noise():
    config = dataclasses.replace(SMALL, metric="kl", task=Task(pairs=12, length=9, corruption="noise", noise=12.0))
    return run_group(config)


@pytest.mark.slow
def test_kl_of_noised_runs_has_the_whole_effect_where_the_noise_is(kl_after_noise):
    view = view_of(kl_after_noise)
    np.testing.assert_allclose(view.clean, 0, atol=1e-5)
    assert (view.corrupted >= 0).all() and view.is_clear and view.total < -1
    for direction in DIRECTIONS:
        np.testing.assert_allclose(view.shares(direction, "resid_pre")[0], [1, 0, 0], atol=1e-5)  # A, B, END
        np.testing.assert_allclose(view.shares(direction, "z")[1], [1, 0], atol=1e-3)  # 1.0 alone speaks to the logits


@pytest.mark.slow
def test_kl_is_flat_at_the_clean_run_and_the_report_says_so(kl_after_noise):
    view = view_of(kl_after_noise)
    assert not any(view.has(f"{method}.z", NOISING) for method in causes.METHODS if method != "integrated")
    assert view.has("integrated.z", NOISING) and view.has("estimate.z", DENOISING) and view.missed[NOISING]
    page = patching.report([kl_after_noise])
    html = render(page.title, page.summary, page.blocks)
    assert "its gradient there is 0" in html and "noise on the embeddings of the tokens with ~, 12 times" in html
    assert "NaN" not in html and "the mean KL divergence from the clean run is" in page.summary
    rows = view.about["examples"][0]
    differs = [a != b for a, b in zip(rows["clean"], rows["corrupted"], strict=True)]
    assert sum(differs) == 1 and rows["corrupted"][differs.index(True)] == "~" + rows["clean"][differs.index(True)]


@pytest.fixture(scope="module")
def rank_after_resampling():
    return run_group(dataclasses.replace(SMALL, metric="rank", task=Task(pairs=5, length=9, corruption="resample")))


@pytest.mark.slow
def test_rank_is_patched_but_not_estimated_and_the_report_says_so(rank_after_resampling):
    view = view_of(rank_after_resampling)
    np.testing.assert_array_equal(view.clean, 0)
    assert (view.corrupted >= 0).all() and view.corrupted.mean() > 3 and not view.missed
    assert all(name.partition(".")[0] not in causes.METHODS for d in DIRECTIONS for name in view.effects[d])
    page = patching.report([rank_after_resampling])
    said = sections(page)["How far estimates agree"]
    assert said == "The rank of the answer has no gradient: nothing can be estimated."
    assert "the clean prompt of another pair" in render(page.title, page.summary, page.blocks)
    assert page.data["circuits.json"][0]["agreement"] == {}


# --- corruptions


def test_noise_is_put_on_the_tokens_that_differ_and_on_no_other():
    cfg = dataclasses.replace(RANDOM, embed_scale=3.0)
    params, pairs = random_contrast(cfg).params, induction_pairs(400)
    found = corruption.prompts(pairs, "noise", 2.0, params, cfg, 5)
    np.testing.assert_array_equal(found.clean, found.corrupted)
    differs = np.asarray(pairs.clean != pairs.corrupted)
    np.testing.assert_array_equal(np.abs(np.asarray(found.noise)).max(-1) > 0, differs)
    embedded = 3 * params["embed"]["W_E"][np.asarray(pairs.clean)[differs]]
    assert np.asarray(found.noise)[differs].std() == pytest.approx(2 * embedded.std(), rel=0.05)
    again, others = (corruption.prompts(pairs, "noise", 2.0, params, cfg, seed).noise for seed in (5, 6))
    np.testing.assert_array_equal(again, found.noise)
    assert np.abs(np.asarray(others - found.noise))[differs].min() > 0


def test_noise_is_not_put_on_padding():
    pairs = Pairs(
        np.array([[0, 1, 2]]), np.array([[9, 1, 3]]), np.array([[-1, 0, 1]]), np.ones((1, 1), int), np.ones((1, 1)), {}
    )
    np.testing.assert_array_equal(corruption.differing(pairs), [[False, False, True]])


def test_resampled_pairs_have_each_others_clean_prompts():
    pairs = induction_pairs()
    found = corruption.corrupted(pairs, "resample", 3)
    clean, other = np.asarray(found.clean), np.asarray(found.corrupted)
    np.testing.assert_array_equal(clean, pairs.clean)
    assert sorted(map(tuple, clean)) == sorted(map(tuple, other)) and (clean != other).any(1).all()
    np.testing.assert_array_equal(corruption.corrupted(pairs, "key", 3).corrupted, pairs.corrupted)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": Task(corruption="nois")}, "task.corruption = 'nois' of induction: did you mean 'noise'?"),
        (
            {"task": Task(file="p.jsonl", corruption="key")},
            "task.corruption = 'key' of a file: known: noise, resample",
        ),
        ({"task": Task(noise=0.0)}, "task.noise = 0.0: must be above 0"),
        ({"source": "maen"}, "source = 'maen': did you mean 'mean'?"),
        ({"metric": "log_prob"}, "metric = 'log_prob': did you mean 'log_probability'"),
    ],
)
def test_unknown_words_are_named(changes, words):
    with pytest.raises(InputError) as error:
        dataclasses.replace(SMALL, **changes).check()
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, True),
        ({"metric": "kl", "task": Task(corruption="key")}, True),
        ({"task": Task(corruption="successor")}, False),
        ({"task": Task(corruption="noise")}, False),
        ({"task": Task(file="p.jsonl")}, False),
        ({"source": "zero"}, False),
        ({"model": Model(path="gpt2")}, False),
    ],
)
def test_the_truth_is_told_where_it_is_known(changes, known):
    assert is_known(view_with(np.zeros((2, 2, 3)))._replace(config=Config(**changes))) == known


# --- what is put in


def test_a_mean_is_that_of_the_other_pairs_that_have_a_token_there():
    acts = {"site": np.random.default_rng(0).normal(size=(2, 4, 3, 5)).astype(np.float32)}
    positions = np.array([[0, 1, 2], [-1, 0, 1], [0, 1, 2], [-1, 0, 1]])
    (found,) = mean_of_others(acts, positions).values()
    for b in range(4):
        for p in range(3):
            others = [i for i in range(4) if i != b and positions[i, p] >= 0]
            np.testing.assert_allclose(found[:, b, p], acts["site"][:, others, p].mean(1), rtol=1e-5)
    positions[0, 0] = -1
    with pytest.raises(InputError, match="source = 'mean': pair 2 is the only one with a token in column 0"):
        mean_of_others(acts, positions)


@pytest.mark.slow
def test_nodes_are_patched_with_what_is_chosen():
    """A last layer's MLP: what it says leaves the run's last stream, and what is chosen takes its place."""
    contrast = random_contrast()
    params, cfg, given, metric, *_ = contrast._replace(params=jax.device_put(contrast.params))
    for direction in DIRECTIONS:
        base, source = prompts.roles(given, direction)
        run = lambda change, start: taps.edit_with(prompts.measure, {"blocks.mlp.out": change})(
            params, start, cfg, given, metric
        )
        (acts,) = taps.record(prompts.measure, ["blocks.mlp.out"])(params, source, cfg, given, metric)[1].values()
        mean = jnp.stack([jnp.delete(acts, i, axis=1).mean(1) for i in range(3)], axis=1)
        for kind, value in (("zero", 0 * acts), ("mean", mean), ("run", acts)):
            want = run(lambda x, layer, put=value: jnp.where(layer == 2, put[2], x), base)
            _, found = causes.patch_nodes(contrast._replace(source=kind), direction)
            np.testing.assert_allclose(found["mlp"][2], want, atol=1e-5)
    assert sources_of("run", *contrast[:3], NOISING, ("blocks.mlp.out",)) is None


@pytest.mark.slow
def test_paths_carry_what_is_chosen():
    """What a last layer's MLP says to the logits directly is all that it says."""
    contrast = random_contrast()
    contrast = contrast._replace(params=jax.device_put(contrast.params))
    last = np.array([contrast.cfg.n_layers * contrast.cfg.n_heads + contrast.cfg.n_layers - 1])
    for kind in ("zero", "mean", "run"):
        here = contrast._replace(source=kind)
        nodes = causes.patch_nodes(here, DENOISING)[1]["mlp"]
        np.testing.assert_allclose(patch_routes(here, DENOISING, last)["path_logits"][0], nodes[-1], atol=1e-5)


@pytest.mark.slow
def test_what_is_not_there_for_another_source_is_said():
    """Loss, with means put in: nodes and paths are ranked, and each part that is left out has its line."""
    config = dataclasses.replace(SMALL, metric="loss", source="mean", task=Task(pairs=6, length=9))
    group = run_group(config)
    view = view_of(group)
    assert view.total < -1 and view.is_clear and not view.missed
    assert not any("." in name for d in DIRECTIONS for name in view.effects[d])
    for direction in DIRECTIONS:
        assert {"z", "q", "k", "v", "resid_pre", "random", "path_logits", "path_all"} <= set(view.effects[direction])
    page = patching.report([group])
    said = sections(page)
    for heading in ("Through a node, and past it", "How far estimates agree"):
        assert "put in here" in said[heading] and "\n" not in said[heading]
    assert "the mean output of the other pairs' clean runs" in page.summary
    html = render(page.title, page.summary, page.blocks)
    assert "NaN" not in html and "mean ablation" in html
    assert view.shares(NOISING, "z")[1, 0] > 0.5 > abs(view.shares(NOISING, "z")[1, 1])


# --- estimates, and random parts


@pytest.mark.slow
def test_every_method_is_asked_and_agreement_is_told_of_every_grid():
    contrast = random_contrast()
    sites = ("blocks.mlp.out", "blocks.attn.z", "blocks.attn.k")
    known = {"integrated": Integrated(), "relevance": Relevance()}
    for direction in DIRECTIONS:
        found, _ = causes.estimate(contrast, direction)
        for name, method in known.items():
            want = attribute(*contrast[:4], direction, sites, method).effects
            for short, site in zip(("mlp", "z", "k"), sites, strict=True):
                sums = np.moveaxis(np.asarray(want[site].sum(2)), 1, -1)
                np.testing.assert_allclose(found[f"{name}.{short}"], sums, rtol=1e-3, atol=1e-5)
        whole = attribute(*contrast[:4], direction, "embed", Integrated()).effects["embed"].sum(-1)
        np.testing.assert_allclose(found["integrated.whole"], whole, rtol=1e-3, atol=1e-5)
        _, exact = causes.patch_nodes(contrast, direction)
        assert set(exact) == {name.partition(".")[2] for name in found} - {"whole"}
    seen = view_with(np.zeros((2, 2, 3)))
    for d in DIRECTIONS:
        seen.effects[d].clear()
        seen.effects[d].update(exact | found)
    data = agreement_data(seen)[NOISING]
    assert set(data) == set(exact) and set(data["k"]) == set(LABELS.values())
    assert set(data["z"]) == set(LABELS.values()) - {"exact softmax"}
    means = (found["integrated.z"].mean(-1), exact["z"].mean(-1))
    assert data["z"]["integrated gradients"]["slope"] == pytest.approx(agreement(*means, k=1).slope, rel=1e-4)


def test_agreement_for_people():
    nodes = np.array([1.0, 2.0, 4.0])
    assert agreement_text(agreement(nodes / 2, nodes, k=1)) == "0.5 (1.00)"
    assert agreement_text(agreement(nodes, 0 * nodes, k=1)) == agreement_text(None) == "–"


def test_all_columns_are_asked_about():
    columns = np.array([[2, 4, 4], [3, 4, 0], [5, 5, 5]])
    found = every_column(task.Places(columns, ("a", "b", "c")), 6)
    np.testing.assert_array_equal(found[:3], columns)
    assert found.shape == (7, 3)  # of the second pair four are left
    for own, three in zip(found.T, ([0, 1, 4, 4], [0, 1, 2, 3], [1, 2, 3, 3]), strict=True):
        np.testing.assert_array_equal(own[3:], three)
        assert set(own) == set(range(6))
    everything = np.tile(np.arange(6)[:, None], (1, 3))
    np.testing.assert_array_equal(every_column(task.Places(everything, ()), 6), everything)


@pytest.mark.slow
def test_mlps_are_beside_random_parts_of_what_they_add():
    contrast = random_contrast()
    found = causes.patch_random(contrast, NOISING, 2)
    bases, grid = random_bases(RANDOM, 2, 0), each("blocks.mlp.out", RANDOM, 8, over=("layer",))
    for part, basis in enumerate(bases):
        want = patch_grid(*contrast[:3], grid, contrast.metric, NOISING, views.subspace(basis))
        np.testing.assert_allclose(found["random_mlp"][:, part], want.metric, atol=1e-5)
    assert "random_mlp" not in causes.patch_random(
        random_contrast(dataclasses.replace(RANDOM, n_layers=1, d_mlp=0)), NOISING, 2
    )
    seen = view_with(np.zeros((2, 2, 3)))
    parts = np.array([[1.0], [3.0]]) * np.ones(4)  # of both layers: their mean is 2, their deviation √2
    effects = {"z": np.full((2, 2, 4), 2.0), "mlp": np.array([[4.0], [2.0]]) * np.ones(4)}
    effects |= {"random": np.stack([parts, parts]), "random_mlp": np.stack([parts, parts])}
    rows = beside_random(seen._replace(effects={NOISING: effects}), NOISING)
    assert [row[1] for row in rows] == pytest.approx([0, 0, 0, 0, 2**0.5, 0], abs=1e-3)
    assert all(row[0] == pytest.approx(2 / seen.total, abs=1e-3) for row in rows)
