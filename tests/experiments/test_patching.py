"""The patching experiment: the truth of a known circuit, identities between its numbers, its tasks, its page, and errors."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.anatomy.heads import HeadScores
from interp_jax.data.contrast.templates import template_pairs
from interp_jax.errors import InputError
from interp_jax.experiments import patching
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.patching import causes, circuit, corruption, missed, routes, runs, task
from interp_jax.experiments.patching.config import Config, Missed, Task
from interp_jax.experiments.patching.estimate_blocks import agreement_of, missed_blocks
from interp_jax.experiments.patching.measure import metric_of
from interp_jax.experiments.patching.mediation import effects_of, mediation_table
from interp_jax.experiments.patching.path_blocks import all_paths, path_blocks, path_figure
from interp_jax.experiments.patching.view import View, effect_of, pick, view_of
from interp_jax.experiments.subjects.kinds import Repeats
from interp_jax.experiments.subjects.model import Model, Subject, subject_of
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.attribution.estimates import attribute
from interp_jax.patching.attribution.star import star
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.paths.patch import Sender, patch_paths
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results.blocks import Figure, TableBlock
from interp_jax.results.report import render
from tests.data.contrast.test_templates import all_words, tokenizer_of, words_backend

ALIKE = 1 / 9  # attention of head 1.0 on each token where none of them is the one it looks for
SMALL = Config(task=Task(pairs=4, length=9), random_nodes=2, repeats=Repeats(2, 6))
ONE_LAYER = TransformerConfig(n_layers=1, d_model=12, n_heads=2, d_head=6, d_vocab=20, n_context=16)
RANDOM = TransformerConfig(
    n_layers=3, d_model=12, n_heads=2, n_kv_heads=1, d_head=6, d_mlp=10, d_vocab=20, n_context=16, positions="rotary"
)


def run_group(config, n_seeds=1):
    """What the engine does, without disk."""
    members = [dataclasses.replace(config, seed=i) for i in range(n_seeds)]
    made = patching.experiment(members[0])
    states = [made.run.init(m.seed, m) for m in members]
    seen = [
        made.observe(s, m, made.shared) | made.analyse(s, m, made.shared) for s, m in zip(states, members, strict=True)
    ]
    stacked = {name: np.stack([np.asarray(each[name]) for each in seen]) for name in seen[0]}
    hashes = tuple(map(str, range(n_seeds)))
    return GroupResult(
        parts.stack(members), hashes, np.full(n_seeds, -1), {1: stacked}, {}, np.zeros(0), (), np.zeros(n_seeds)
    )


@pytest.fixture(scope="module")
def circuit_group():
    return run_group(SMALL, 2)


@pytest.fixture(scope="module")
def words():
    return tokenizer_of(words_backend(all_words()))


def random_contrast(cfg=RANDOM, n=3, length=8):
    """A model with random weights on induction pairs, with columns for positions."""
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: (0.4 * rng.normal(size=x.shape)).astype(np.float32), shapes)
    pairs = template_pairs("induction", 0, n, d_vocab=cfg.d_vocab, length=length)
    columns = task.Places(np.tile(np.arange(length)[:, None], (1, n)), ())
    prompts = corruption.prompts(pairs, "", 1.0, params, cfg, 0)
    return causes.Contrast(params, cfg, prompts, metric_of(pairs, "logit_difference"), columns)


# --- what is known


@pytest.mark.slow
def test_the_circuit_is_found_with_its_numbers(circuit_group):
    view = view_of(circuit_group)
    assert len(view.clean) == 8  # the pairs of both seeds
    restored, lost = (view.shares(direction, "z") for direction in DIRECTIONS)
    np.testing.assert_allclose(restored, [[1, 0], [1, 0]], atol=2e-3)
    np.testing.assert_allclose(lost, [[1 - ALIKE, 0], [1, 0]], atol=2e-3)
    for direction in DIRECTIONS:
        np.testing.assert_allclose(view.shares(direction, "q"), 0, atol=1e-4)
        np.testing.assert_allclose(
            view.shares(direction, "k")[1], lost[0] if direction == NOISING else [1, 0], atol=0.01
        )
    found = circuit.chain_of(view)
    assert found.is_induction and found.way == "k"
    assert [s.head for s in found.speakers] == [0] and [r.head for r in found.readers] == [2]
    assert found.speakers[0].at_once["k"] == pytest.approx(found.speakers[0].alone, abs=1e-5)
    assert np.abs([found.speakers[0].at_once[way] for way in "qv"]).max() < 1e-4
    said = circuit.sentence(view, found)
    assert said.startswith("Previous-token head 0.0 (1.00) → keys → induction head 1.0 (0.9")
    assert "an induction circuit, by K-composition" in said and "keys 100% restored" in said


@pytest.mark.slow
def test_where_prompts_differ_is_all_there_is(circuit_group):
    """They differ at A alone: the stream there, before layer 0, is the whole effect; later it is at B, and then at END."""
    view = view_of(circuit_group)
    assert view.about["positions"] == ["A", "B", "END"]
    for direction in DIRECTIONS:
        np.testing.assert_allclose(view.shares(direction, "resid_pre")[0], [1, 0, 0], atol=1e-6)
        later = [ALIKE, 1, 0] if direction == DENOISING else [0, 1 - ALIKE, 0]  # X at A is looked at as all else is
        np.testing.assert_allclose(view.shares(direction, "resid_pre")[1], later, atol=2e-3)
        np.testing.assert_allclose(view.shares(direction, "attn_out")[1], [0, 0, 1], atol=1e-5)


@pytest.mark.slow
def test_paths_of_the_circuit_are_those_of_its_heads(circuit_group):
    """A last layer's head acts on the logits alone; and one sender with one reader acts through that."""
    view = view_of(circuit_group)
    for direction in DIRECTIONS:
        effects = view.effects[direction]
        np.testing.assert_allclose(effects["path_logits"][2:], effects["z"][1], atol=1e-4)
        np.testing.assert_allclose(effects["path_logits"][:2], 0, atol=1e-5)
        np.testing.assert_allclose(effects["path_all"][0, 1], effects["path_k"][0, 1, 0], atol=1e-4)
        np.testing.assert_allclose(effects["path_all"][2:], 0, atol=0)


@pytest.mark.slow
def test_the_page_says_it_and_names_the_direction_in_every_caption(circuit_group):
    page = patching.report([circuit_group])
    html = render(page.title, page.summary, page.blocks)
    assert page.title == "What makes an induction circuit built by hand do induction"
    assert "induction circuit, by K-composition" in page.summary and "8 pairs of induction" in page.summary
    captions = [
        b.caption if isinstance(b, Figure) else b.table.caption
        for b in page.blocks
        if isinstance(b, (Figure, TableBlock))
    ]
    measured = [c.lower() for c in captions if "share" in c or "effect" in c or "node" in c]
    assert len(measured) >= 12 and all("noising" in c for c in measured)
    assert "NaN" not in html and "&lt;b&gt;" not in html
    json.dumps(page.data)
    (known,) = page.data["circuits.json"]
    assert known["chain"]["is_induction"] and known["chain"]["speakers"][0]["head"] == "0.0"


@pytest.mark.slow
def test_another_seed_has_other_pairs_and_the_same_seed_the_same(circuit_group):
    seen = circuit_group.observations[1]
    first, second = (json.loads(str(about))["examples"] for about in seen["about"])
    assert first != second
    again = run_group(dataclasses.replace(SMALL, seed=1)).observations[1]
    np.testing.assert_array_equal(again["denoising.z"][0], seen["denoising.z"][0])


# --- identities


@pytest.mark.slow
def test_estimates_add_up():
    """To first order, an attention output is the sum of its heads' mixes: so are effects, over positions and over heads."""
    contrast = random_contrast(dataclasses.replace(RANDOM, biases="none"))
    for direction in DIRECTIONS:
        found, ranked = causes.estimate(contrast, direction)
        assert found["estimate.z"].shape == (3, 2, 3) and found["estimate.k"].shape == (3, 1, 3)
        by_position = found["estimate.attn_out"].sum(1)
        np.testing.assert_allclose(found["estimate.z"].sum(1), by_position, atol=1e-4 * np.abs(by_position).max())
        np.testing.assert_allclose(found["estimate.mlp"], found["estimate.mlp_out"].sum(1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(ranked.sum(2), found["estimate.z"].mean(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_sizes_are_those_of_atp_star_and_agree_with_sizes():
    contrast = random_contrast()
    sites = ("blocks.mlp.out", "blocks.attn.k")
    for direction in DIRECTIONS:
        found = causes.estimate(contrast, direction).effects
        want = attribute(*contrast[:4], direction, sites, star).effects
        np.testing.assert_allclose(found["star.mlp_out"], np.moveaxis(want[sites[0]], 1, -1), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found["star.k"], np.moveaxis(want[sites[1]].sum(2), 1, -1), rtol=1e-4, atol=1e-7)
    assert not any(name.startswith("star.") for name in causes.estimate(random_contrast(ONE_LAYER), DENOISING).effects)
    effects = np.array([[1.0, -1.0], [3.0, -1.0], [0.0, 0.2]])  # of three nodes, on two examples
    seen = view_with(np.zeros((2, 2, 3)))
    for direction in DIRECTIONS:
        seen.effects[direction].update({"z": -seen.total * effects, "star.z": seen.total * 2 * np.abs(effects)})
    assert agreement_of(seen, NOISING, "z", "star").slope == pytest.approx(2)
    assert agreement_of(seen, NOISING, "z", "star").r_squared == pytest.approx(1)


@pytest.mark.slow
def test_all_nodes_of_one_grid_have_their_own_numbers():
    """The stream before layer 0 at the column that differs is the other run; the last column's last outputs act directly."""
    contrast = random_contrast()
    for direction in DIRECTIONS:
        whole, found = causes.patch_nodes(contrast, direction)
        other = whole.clean if direction == DENOISING else whole.corrupted
        for i in range(3):
            differs = int(np.flatnonzero(np.asarray(contrast.prompts.clean[i] != contrast.prompts.corrupted[i]))[0])
            assert found["resid_pre"][0, differs, i] == pytest.approx(other[i], abs=1e-5)
        assert {name: values.shape[:-1] for name, values in found.items()} == {
            **dict.fromkeys(("resid_pre", "attn_out", "mlp_out"), (3, 8)),
            **{"z": (3, 2), "q": (3, 2), "k": (3, 1), "v": (3, 1), "mlp": (3,)},
        }
        np.testing.assert_allclose(found["mlp"][-1], found["mlp_out"][-1, -1], atol=1e-5)


@pytest.mark.slow
def test_with_one_later_head_at_once_is_one_path():
    """Three layers of one head: the middle one's paths into all later heads are those into the last one."""
    contrast = random_contrast(dataclasses.replace(RANDOM, n_heads=1, d_mlp=0))
    for direction in DIRECTIONS:
        found = routes.patch_routes(contrast, direction, np.arange(3))
        for i, way in enumerate(routes.INPUTS):
            np.testing.assert_allclose(found["path_all"][1, i], found[f"path_{way}"][1, 2, 0], atol=1e-5)
            assert np.abs(found["path_all"][0, i] - found[f"path_{way}"][0, 2, 0]).max() > 1e-4  # it has two readers


@pytest.mark.slow
def test_paths_into_all_heads_equal_a_run_with_those_inputs():
    """What layer 0 says, given to the values of both later layers at once: the same by hand, one layer after the other."""
    cfg = dataclasses.replace(RANDOM, n_kv_heads=2, d_mlp=0, norm="none", positions="none", biases="none")
    contrast = random_contrast(cfg)
    (found,) = routes.patch_routes(contrast, DENOISING, np.array([1]))["path_all"]
    params, _, prompts, metric, *_ = contrast
    attn = params["blocks"]["attn"]
    patterns, v, z, streams = (dict() for _ in range(4))
    for side in ("clean", "corrupted"):
        x = params["embed"]["W_E"][np.asarray(getattr(prompts, side))]
        patterns[side], v[side], z[side], streams[side] = [], [], [], []
        for layer in range(3):
            q, k, values = (np.einsum("bpd,hde->bphe", x, attn[f"W_{c}"][layer]) for c in "QKV")
            scores = np.einsum("bqhe,bkhe->bhqk", q, k) / np.sqrt(cfg.d_head)
            scores = np.where(np.tri(x.shape[1], dtype=bool), scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            pattern = weights / weights.sum(-1, keepdims=True)
            mixed = np.einsum("bhqk,bkhe->bqhe", pattern, values)
            for kept, value in ((streams, x), (patterns, pattern), (v, values), (z, mixed)):
                kept[side].append(value)
            x = x + np.einsum("bphe,hed->bpd", mixed, attn["W_O"][layer])
    delta = (z["clean"][0] - z["corrupted"][0])[:, :, 1] @ attn["W_O"][0, 1]
    x = streams["corrupted"][1]
    for layer in (1, 2):
        read = np.einsum("bpd,hde->bphe", streams["corrupted"][layer] + delta, attn["W_V"][layer])
        q, k = (np.einsum("bpd,hde->bphe", x, attn[f"W_{c}"][layer]) for c in "QK")
        scores = np.where(
            np.tri(x.shape[1], dtype=bool), np.einsum("bqhe,bkhe->bhqk", q, k) / np.sqrt(cfg.d_head), -np.inf
        )
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("bhqk,bkhe->bqhe", weights / weights.sum(-1, keepdims=True), read)
        x = x + np.einsum("bphe,hed->bpd", mixed, attn["W_O"][layer])
    want = metric.of(jnp.asarray(x[:, -1] @ params["unembed"]["W_U"]))
    np.testing.assert_allclose(found[2], want, atol=1e-4)


@pytest.mark.slow
def test_mlps_send_too_and_are_named():
    contrast = random_contrast()
    numbers = [1, 6, 7, 8]  # head 0.1, and the MLPs of three layers of two heads
    found = routes.patch_routes(contrast, NOISING, np.array(numbers))
    for i, sender in enumerate((Sender(0, 1), Sender(0), Sender(1), Sender(2))):
        for receiver in ("k", "logits"):
            want = patch_paths(*contrast[:3], [sender], receiver, contrast.metric, NOISING)
            np.testing.assert_allclose(found[f"path_{receiver}"][i], want.metric[0], atol=1e-5)
    assert np.abs(found["path_logits"][1:] - found["path_logits"][:1]).max(-1).min() > 1e-4
    np.testing.assert_array_equal(
        found["path_all"][3], np.tile(found["path_k"][3, 0, 0], (3, 1))
    )  # nothing is after it
    effects = {name: np.abs(values) for name, values in found.items()} | {"z": np.ones((3, 2, 3))}
    seen = dict.fromkeys(DIRECTIONS, effects)
    kinds = HeadScores(*np.zeros((3, 1, 3, 2)))
    view = View(Config(), {"name": "a model"}, np.full(3, 2.0), np.zeros(3), np.array(numbers), seen, kinds)
    assert [view.node_name(n) for n in numbers] == ["0.1", "MLP 0", "MLP 1", "MLP 2"]
    assert [view.layer_of(n) for n in numbers] == [0, 0, 1, 2]
    paths = set(all_paths(view).names)
    later = {("MLP 0", "queries of 1.0"), ("MLP 1", "values of key/value head 2.0"), ("MLP 2", "logits")}
    assert later <= paths and ("MLP 1", "queries of 1.0") not in paths
    figure, _ = path_figure(view, DENOISING, ("q",), (0.0, 1.0))
    assert list(figure.layout.yaxis.ticktext or figure.layout.yaxis.categoryarray) == [
        "0.1",
        "MLP\u00b70",
        "MLP\u00b71",
    ]  # nothing is after the last MLP
    assert [speaker.head for speaker in circuit.chain_of(view).speakers] == [1]  # a chain is one of heads


def test_senders_of_the_last_layer_alone_have_paths_to_the_logits_alone():
    """No matrix is drawn of no rows."""
    view = view_with(np.zeros((2, 2, 3)))
    last = {
        d: {n: v[:1] for n, v in seen.items()} | {"path_logits": np.ones((1, 4))} for d, seen in view.effects.items()
    }
    _, table = path_blocks(view._replace(senders=np.array([3]), effects=last))
    assert [row[:2] for row in table.table.rows] == [("1.1", "logits")]


# --- what estimates miss, and mediation


@pytest.mark.slow
def test_what_is_missed_is_bounded():
    """Of all heads' outputs by position, patched one by one here, in a model in which a set does the sum of what its nodes do:
    heads look everywhere alike, and read half of the stream while they write into the other."""
    contrast = random_contrast(dataclasses.replace(RANDOM, norm="none", d_mlp=0, biases="none"))
    params, cfg, prompts, metric, *_ = contrast
    attn, grid = params["blocks"]["attn"], each("blocks.attn.z", cfg, 8)
    attn["W_Q"][:], attn["W_V"][:, :, 6:], attn["W_O"][..., :6] = 0, 0, 0
    for direction in DIRECTIONS:
        truth = np.abs(patch_grid(params, cfg, prompts, grid, metric, direction).effect.mean(-1))
        estimate = causes.estimate(contrast, direction).ranked
        assert estimate.shape == truth.shape == (3, 2, 8)
        assert (np.flatnonzero(truth > 1e-4) % 8 == 7).all() and (truth > 1e-4).sum() == 6  # at the measured column
        weakest_first = 1 / (truth + 1e-6)  # an estimate that misses all that there is
        for ranked in (estimate, weakest_first):
            found = missed.bound_missed(contrast, direction, ranked, 6, 400, 0)
            order = np.argsort(-np.abs(ranked).ravel(), kind="stable")
            assert found.strongest == pytest.approx(truth.ravel()[order[:6]].max(), abs=1e-5)
            missing = truth.ravel()[order[6:]].max()
            assert missing - 1e-5 <= found.bound < 2 * missing + 1e-4
            assert (found.nodes, found.checked) == (48, 6)
    assert missed.bound_missed(contrast, NOISING, estimate, 99, 100, 0).checked == 24  # half of them are left


def test_the_largest_bound_of_all_runs_is_shown():
    view = view_with(np.zeros((2, 2, 3)), clean=2.0)
    bounds = tuple(missed.Missed(12.0, 6.0, 0.4 * view.total, share * view.total) for share in (0.1, 0.3))
    view = view._replace(about={"positions": ["A"], "columns": 6})
    (_, table) = missed_blocks(view._replace(missed=dict.fromkeys(DIRECTIONS, bounds)))
    assert [row[1:] for row in table.table.rows] == [(12, 6, 0.4, 0.3)] * 2
    assert missed_blocks(view) == []


def test_mediation_is_of_the_same_runs():
    """Restored .8 and lost .8 of head 0.0: nothing is left over where it is .8 and .2 past it; and .9 of head 1.0."""
    view = view_with(np.zeros((2, 2, 3)))
    found = effects_of(view)
    np.testing.assert_allclose(found.indirect.mean(-1), [0.8, 0.1, 0.9, 0.0])
    np.testing.assert_allclose(found.direct.mean(-1), view.total - np.array([0.8, 0.1, 0.9, 0.0]), atol=1e-12)
    np.testing.assert_allclose(found.indirect + found.direct + found.interaction, np.tile(found.total, (4, 1)))
    backed = {
        NOISING: view.effects[NOISING] | {"z": 0 * view.effects[NOISING]["z"]}
    }  # without any of them, all is well
    table = mediation_table(view._replace(effects=view.effects | backed))
    assert [row[0] for row in table.rows] == ["head 1.0", "head 0.0", "head 0.1", "head 1.1"]
    indirect, direct, interaction = (table.rows[0][i] for i in (1, 4, 7))
    assert direct == 1 and interaction == -indirect == pytest.approx(-0.9 / view.total, abs=1e-3)


def test_the_strongest_heads_send():
    size = np.array([[0.1, 3.0], [2.0, 0.0]])
    assert runs.strongest(size, 2).tolist() == [1, 2] and runs.strongest(size, 0).tolist() == [0, 1, 2, 3]


# --- the sentence


def view_with(at_once, kinds=(), clean=1.0, n_layers=2, n_heads=2, n_pairs=4):
    """A view of two layers whose senders are its first layer's heads, with these shares of path_all [2 S 3]."""
    scores = {kind: np.zeros((1, n_layers, n_heads)) for kind in HeadScores._fields}
    for kind, head in kinds:
        scores[kind].reshape(1, -1)[:, head] = 0.9
    spread = lambda x: np.asarray(x, float)[..., None] * np.ones(n_pairs)
    effects = {}
    for direction, shares in zip(DIRECTIONS, at_once, strict=True):
        single = np.zeros((3, n_heads, n_layers, n_heads))
        single[:, :, 1] = np.asarray(shares).T[..., None] * np.array([1.0, 0.1])  # most of it into 1.0
        effects[direction] = {"path_all": spread(shares), "z": spread([[0.8, 0.1], [0.9, 0.0]])}
        effects[direction] |= {f"path_{way}": spread(one) for way, one in zip("qkv", single, strict=True)}
    noise = 0.01 * np.arange(n_pairs)
    return View(
        Config(),
        {"name": "a model", "positions": []},
        clean + noise,
        noise * 0,
        np.arange(n_heads),
        effects,
        HeadScores(**scores),
    )


def test_the_sentence_names_ways_and_ends():
    by_keys = [[[0, 0.6, 0], [0, 0.3, 0]], [[0, 0.8, 0.1], [0, 0.3, 0]]]
    known = view_with(by_keys, [("previous", 0), ("previous", 1), ("induction", 2)])
    assert known.total == pytest.approx(1.015)
    found = circuit.chain_of(known)
    assert found.is_induction and [s.head for s in found.speakers] == [0, 1] and [r.head for r in found.readers] == [2]
    said = circuit.sentence(known, found)
    assert "Previous-token heads 0.0 (0.90), 0.1 (0.90) → keys → induction head 1.0 (0.90)" in said
    assert (
        "Head 0.0 itself: 79% restored and 79% lost" in said and "keys 59% restored and 79% lost, queries 0%" in said
    )
    unknown = view_with(by_keys)
    assert circuit.sentence(unknown, circuit.chain_of(unknown)).startswith(
        "The strongest chain is heads 0.0, 0.1 → keys → head 1.0."
    )
    by_values = view_with([[[0, 0.1, -0.6], [0, 0, 0]]] * 2, [("previous", 0), ("induction", 2)])
    found = circuit.chain_of(by_values)
    assert found.way == "v" and not found.is_induction and "values -59% restored" in circuit.sentence(by_values, found)


def test_no_chain_where_nothing_is_carried_or_nothing_differs():
    nothing = view_with(np.full((2, 2, 3), 0.01))
    assert circuit.chain_of(nothing) is None and "No direct path" in circuit.sentence(nothing, None)
    strong = view_with(np.full((2, 2, 3), 0.5))
    unclear = strong._replace(clean=np.array([1.0, -1.0, 1.0, -0.9]))
    assert circuit.chain_of(unclear) is None and "the model does not do this" in circuit.sentence(unclear, None)
    assert circuit.as_data(unclear, None)["chain"] is None


def test_what_rounding_makes_is_no_effect():
    """Of metrics of size 8, 1e-5 is rounding, though it has one sign in all pairs; 1e-3 is none. Estimates stay as they are."""
    clean = np.full((1, 4), 8, np.float32)
    seen = {"clean": clean, "corrupted": 0 * clean}
    patched = np.stack([clean - 1e-5, clean - 1e-3], axis=1)
    lost = effect_of(NOISING, "q", patched, seen)
    np.testing.assert_array_equal(lost[:, 0], 0)
    np.testing.assert_allclose(lost[:, 1], 1e-3, rtol=1e-2)
    np.testing.assert_array_equal(effect_of(NOISING, "integrated.q", patched, seen), -patched)


def test_only_senders_that_all_runs_have_are_pooled():
    values = np.arange(2.0 * 3 * 2).reshape(2, 3, 2)
    there = np.array([[0, 2, 5], [2, 3, 5]])
    np.testing.assert_array_equal(pick(values, there, np.array([2, 5])), [values[0, [1, 2]], values[1, [0, 2]]])


# --- tasks


def a_model(tokenizer=None, **changes):
    cfg = dataclasses.replace(RANDOM, d_vocab=tokenizer.d_vocab if tokenizer else 20, n_context=64, **changes)
    return Subject("a model", cfg, tokenizer, lacks="" if tokenizer else "no tokenizer.json beside the weights")


def of(name="induction", **changes):
    return dataclasses.replace(SMALL, task=Task(name=name, **{"pairs": 4, **changes}))


def test_a_frame_has_columns_with_tokens_and_places(words):
    config, subject = of("ioi"), a_model(words)
    pairs = task.pairs_of(config, subject, 0)
    labels = task.labels_of(pairs, task.places_of(config, pairs), subject)
    assert len(labels) == pairs.clean.shape[1] and labels[0].strip() == "When"
    assert {"IO", "S1", "S2"} <= set(labels) and labels[-1].endswith("(END)")
    mixed = of("ioi", frame=-1, pairs=12)
    pairs = task.pairs_of(mixed, subject, 0)
    places = task.places_of(mixed, pairs)
    assert set(places.names) == {"IO", "S1", "S1+1", "S2", "END", "location", "gift"} and places.names[-1] == "END"
    np.testing.assert_array_equal(places.columns[-1], np.asarray(pairs.places["END"]))


@pytest.mark.parametrize("name", ["ioi", "greater_than", "docstring", "agreement", "pronoun"])
def test_every_template_can_be_asked(words, name):
    config, subject = of(name), a_model(words)
    pairs = task.pairs_of(config, subject, 0)
    shown = runs.example(pairs, 0, subject)
    assert len(shown["clean"]) == pairs.clean.shape[1] and shown["answers"] and shown["others"]
    assert metric_of(pairs, "logit_difference").of(jnp.zeros((4, subject.cfg.d_vocab))).shape == (4,)


def test_induction_takes_what_room_there_is():
    subject = subject_of(Model())
    lengths = [task.pairs_of(of(length=n), subject, 0).clean.shape[1] for n in (9, 24, 99)]
    assert lengths == [9, 24, 26]  # different letters
    short = a_model()._replace(cfg=dataclasses.replace(RANDOM, n_context=7))
    assert task.pairs_of(of(length=99), short, 0).clean.shape[1] == 7
    with pytest.raises(InputError, match="task.length = 4: a prompt of 'induction' has at least 5 tokens"):
        task.pairs_of(of(length=4), subject, 0)


def write_pairs(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_a_file_of_ids_needs_no_tokenizer(tmp_path):
    rows = [
        {"clean": [1, 2, i], "corrupted": [1, 3, i], "answer": 4, "other": 5, "places": {"b": 1}} for i in range(6, 9)
    ]
    config = of(file=write_pairs(tmp_path / "p.jsonl", rows), pairs=2)
    pairs = task.pairs_of(config, a_model(), 0)
    assert pairs.clean.tolist() == [[1, 2, 6], [1, 2, 7]]  # no more than asked for
    assert task.labels_of(pairs, task.places_of(config, pairs), a_model()) == ["1", "2 (b)", "END"]
    rows[1] |= {"clean": [9, 1, 2, 7], "corrupted": [9, 1, 3, 7], "places": {"b": 2}}
    config = of(file=write_pairs(tmp_path / "p.jsonl", rows), pairs=2)
    assert task.places_of(config, task.pairs_of(config, a_model(), 0)).names == ("b", "END")


# --- what cannot be


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": Task(name="inductoin")}, "task.name = 'inductoin': did you mean 'induction'"),
        ({"task": Task(name="ioi", corruption="ABD")}, "task.corruption = 'ABD' of ioi: did you mean 'ABC'?"),
        ({"task": Task(name="ioi", frame=12)}, "task.frame = 12: ioi has frames 0 to 11, and -1 mixes them"),
        ({"task": Task(pairs=1)}, "task.pairs = 1: must be at least 2, or there is no interval"),
        ({"metric": "logit difference"}, "metric = 'logit difference': did you mean 'logit_difference'"),
        ({"steps": 2}, "nothing is trained"),
        ({"random_nodes": 1}, "random_nodes = 1"),
        ({"missed": Missed(sets=40)}, "missed.sets = 40: at least 0, and 0 or at least 100"),
        ({"model": Model(path="a\udcff")}, "model.path = 'a\\udcff': must be characters that UTF-8 can write"),
        ({"repeats": Repeats(0, 4)}, "repeats.sequences = 0: must be at least 1"),
    ],
)
def test_impossible_configs_are_named(changes, words):
    with pytest.raises(InputError) as error:
        dataclasses.replace(SMALL, **changes).check()
    assert words in str(error.value) and "\n" not in str(error.value)


def test_tasks_that_a_model_cannot_be_asked_are_named(tmp_path):
    with pytest.raises(
        InputError, match="task.name=ioi is text, and a model has no tokenizer .no tokenizer.json beside the wei"
    ):
        task.pairs_of(of("ioi"), a_model(), 0)
    with pytest.raises(InputError, match="its tokens are letters"):
        task.pairs_of(of("agreement"), subject_of(Model()), 0)
    one = write_pairs(tmp_path / "one.jsonl", [{"clean": [1, 2], "corrupted": [1, 3], "answer": 4, "other": 5}])
    with pytest.raises(InputError, match="one.jsonl: holds one pair; give at least 2"):
        task.pairs_of(of(file=one), a_model(), 0)
    rows = [{"clean": [1, 2], "corrupted": [1, 3], "answer": 4, "other": 25}] * 2
    with pytest.raises(InputError, match="others has token 25: ids go from 0 to 19"):
        task.pairs_of(of(file=write_pairs(tmp_path / "big.jsonl", rows)), a_model(), 0)
    long = [{"clean": [1] * 65 + [2], "corrupted": [1] * 65 + [3], "answer": 4, "other": 5}] * 2
    with pytest.raises(InputError, match="66 positions are more than the model's model.n_context = 64"):
        task.pairs_of(of(file=write_pairs(tmp_path / "long.jsonl", long)), a_model(), 0)


def test_runs_that_do_not_differ_are_named():
    same = np.array([1.0, 2.0])
    with pytest.raises(
        InputError, match="a model does not tell clean from corrupted prompts: the mean metric is 1.5 on both"
    ):
        runs.check_differs(same, same[::-1], a_model())
    runs.check_differs(same, same + 1e-3, a_model())
