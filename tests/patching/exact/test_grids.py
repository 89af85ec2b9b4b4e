"""Every kind of grid equals one full forward pass per cell."""

import dataclasses
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.sites import sites
from interp_jax.patching import metrics
from interp_jax.patching.exact import views
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import Node, Terms, at_once, each
from interp_jax.patching.exact.plan import plan_grid
from interp_jax.patching.exact.recordings import mean_source, record_source, zero_source
from interp_jax.patching.prompts import Input, prompts_of
from tests.models.transformer_oracle import FAMILY, random_model
from tests.patching.exact.naive_grid import naive_grid


def three_layers(cfg):
    local = {"local_layers": (*cfg.local_layers, True)} if cfg.local_layers else {}
    return dataclasses.replace(cfg, n_layers=3, **local)


MODELS = {name: three_layers(cfg) for name, cfg in FAMILY.items()}
GROUPED, ENCODER = MODELS["sandwich, capped, local layers"], MODELS["encoder"]
B, P = 2, 5


@lru_cache
def weights(cfg):
    return jax.tree.map(np.asarray, random_model(cfg)[0])


def model(cfg, dtype=jnp.float64):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), weights(cfg))


def prompts(cfg, padded=False, columns=P):
    rng = np.random.default_rng(1)
    clean, corrupted = rng.integers(0, cfg.d_vocab, (2, B, columns))
    positions = np.arange(columns)[None]
    if padded:
        positions = np.array([np.arange(columns), np.r_[-1, -1, np.arange(columns - 2)]])
    return prompts_of(clean, corrupted, positions)


TIGHT = 2e4  # bytes: one example of these models, a lane at a time
METRIC = metrics.logit_difference(np.array([1, 2]), np.array([[3, 4], [0, 5]]))


def check(cfg, grid, seen=None, metric=METRIC, direction="denoising", **options):
    with jax.enable_x64(True):
        seen = prompts(cfg) if seen is None else seen
        params = model(cfg)
        got = patch_grid(params, cfg, seen, grid, metric, direction, **options)
        want = naive_grid(params, cfg, seen, grid, metric, direction)
    assert got.metric.dtype == np.float64
    assert got.metric.shape == (*grid.shape, B)
    assert np.abs(got.metric.reshape(want.shape) - want).max() <= 1e-10
    assert np.ptp(want, axis=0).max() > 1e-3  # the patches do something
    return got


def some_cells(cfg, per_site=2, columns=P):
    """For every site of the model, some cells at random layers, positions and units."""
    rng, cells = np.random.default_rng(2), []

    def maybe(n):
        return int(rng.integers(n)) if n and rng.random() < 0.7 else None

    for site in (s for s in sites(cfg) if s.name.startswith("blocks.")):
        letters = site.shape.split()
        size = {"H": cfg.n_heads, "G": cfg.n_groups, "M": cfg.d_mlp}
        units = next((size[c] for c in letters if c in size), 0)
        for _ in range(per_site):
            source = maybe(columns) if "K" in letters else None
            layer = int(rng.integers(cfg.n_layers))
            cells.append([Node(site.name, layer, maybe(columns), maybe(units), source)])
    return at_once(cells, cfg)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_site_of_every_family(name):
    check(MODELS[name], some_cells(MODELS[name]))


def test_left_padding_and_measured_columns():
    cfg = MODELS["sandwich, capped, local layers"]
    seen = prompts(cfg, padded=True)
    check(cfg, some_cells(cfg), seen._replace(at=jnp.array([2, 4])))


def test_sets_of_nodes_across_layers_and_noising():
    cfg = MODELS["mlp"]
    sets = [
        [Node("blocks.resid_pre", 0, 1), Node("blocks.resid_pre", 2, 3), Node("blocks.attn.z", 1, 4, 2)],
        [Node("blocks.resid_post", 2, 4), Node("blocks.mlp.out", 0, window=3)],
        [Node("blocks.resid_post", 0, 0), Node("blocks.attn.pattern", 1, unit=1), Node("blocks.mlp.post", 2, 4, 3)],
        [Node("blocks.resid_pre", 1, [1, 3])],
    ]
    check(cfg, at_once(sets, cfg), direction="noising")


def test_axes():
    cfg = GROUPED
    grid = each("blocks.attn.k", cfg, P)
    assert [(axis.name, len(axis.labels)) for axis in grid.axes] == [("layer", 3), ("head", 2), ("position", P)]
    check(cfg, grid)
    places = {"first": [0, 1], "second": [4, 2]}
    grid = each("blocks.resid_pre", cfg, P, positions=places, window=2, layers=(0, 2))
    assert [axis.labels for axis in grid.axes] == [("0", "2"), ("first", "second")]
    check(cfg, grid)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.probability(np.array([1, 2])),
        metrics.loss(np.array([[1, 3], [2, 4]])),
        metrics.kl(np.random.default_rng(5).normal(size=(B, 11))),
        metrics.rank(np.array([1, 2])),
    ],
    ids=lambda m: m.name,
)
def test_metrics_of_all_logits(metric):
    cfg = MODELS["mlp"]
    check(cfg, each("blocks.resid_pre", cfg, P), metric=metric)


def test_a_subspace_and_features():
    cfg = MODELS["mlp"]
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(cfg.n_layers, cfg.d_model, 3)))[0]
    grid = each("blocks.resid_mid", cfg, P, over=("layer", "position", "coordinate"), n_coordinates=3)

    def change(x, source, mask, layer, chosen):
        part = (jnp.asarray(basis)[layer] * chosen) @ (jnp.asarray(basis)[layer] * chosen).T
        return jnp.where(mask, x + (source - x) @ part, x)

    with jax.enable_x64(True):
        got = patch_grid(model(cfg), cfg, prompts(cfg), grid, METRIC, view=views.subspace(basis)).metric
        for i in range(3):
            terms = {s: Terms(*(a[i::3] for a in t)) for s, t in grid.terms.items()}
            terms = {s: t._replace(unit=np.full_like(t.unit, -1)) for s, t in terms.items()}
            want = naive_grid(
                model(cfg), cfg, prompts(cfg), grid._replace(terms=terms), METRIC,
                change=partial(change, chosen=np.eye(3)[i]),
            )  # fmt: skip
            assert np.abs(got[:, :, i].reshape(want.shape) - want).max() <= 1e-10


def part_of_layer(basis):
    """What a patch of subspaces [L D N] does: the part of the difference that lies in the layer's."""

    def change(x, source, mask, layer):
        own = jnp.asarray(basis)[layer]
        return jnp.where(mask, x + (source - x) @ own @ own.T, x)

    return change


@pytest.mark.parametrize("site", ["blocks.resid_pre", "blocks.resid_post", "blocks.attn.z", "blocks.mlp.post"])
@pytest.mark.parametrize("window", [1, 2])
def test_subspaces_of_each_layer_at_every_kind_of_site(site, window):
    """The stream after a layer, heads and neurons too: each layer has a basis of its own."""
    cfg = MODELS["mlp"]
    width = {"blocks.attn.z": cfg.d_head, "blocks.mlp.post": cfg.d_mlp}.get(site, cfg.d_model)
    basis = np.linalg.qr(np.random.default_rng(3).normal(size=(cfg.n_layers, width, 2)))[0]
    over = ("layer", "head") if site == "blocks.attn.z" else ("layer", "position")
    grid = each(site, cfg, P, over=over, window=window)
    with jax.enable_x64(True):
        got = patch_grid(model(cfg), cfg, prompts(cfg), grid, METRIC, view=views.subspace(basis)).metric
        want = naive_grid(model(cfg), cfg, prompts(cfg), grid, METRIC, change=part_of_layer(basis))
    assert np.abs(got.reshape(want.shape) - want).max() <= 1e-10
    assert np.ptp(want, axis=0).max() > 1e-3


def test_a_direction_is_a_subspace_of_one_dimension():
    cfg = MODELS["mlp"]
    vector = np.random.default_rng(3).normal(size=(cfg.n_layers, cfg.d_model))
    grid = each("blocks.resid_mid", cfg, P)
    with jax.enable_x64(True):
        got = patch_grid(model(cfg), cfg, prompts(cfg), grid, METRIC, view=views.direction(vector)).metric
        unit = (vector / np.linalg.norm(vector, axis=1, keepdims=True))[..., None]
        want = naive_grid(model(cfg), cfg, prompts(cfg), grid, METRIC, change=part_of_layer(unit))
    assert np.abs(got.reshape(want.shape) - want).max() <= 1e-10


def relu_features(data, x):
    return jax.nn.relu(x @ data["W_enc"].astype(x.dtype) + data["b"].astype(x.dtype))


def weighted_features(data, c):
    return c @ data["W_dec"].astype(c.dtype)


@pytest.mark.parametrize("by_layer", [False, True])
def test_features_of_a_dictionary_that_is_not_linear(by_layer):
    """Only the named feature's activation is the source's; what the dictionary does not reconstruct stays."""
    cfg, rng = MODELS["mlp"], np.random.default_rng(3)
    lead = (cfg.n_layers,) if by_layer else ()
    data = {"W_enc": rng.normal(size=(*lead, cfg.d_model, 7)), "W_dec": rng.normal(size=(*lead, 7, cfg.d_model))}
    data["b"] = rng.normal(size=(*lead, 7))
    view = views.features(relu_features, weighted_features, data, 7, by_layer)
    grid = each("blocks.resid_post", cfg, P, over=("layer", "coordinate"), n_coordinates=7)

    def change(x, source, mask, layer, feature):
        own = jax.tree.map(lambda d: jnp.asarray(d)[layer] if by_layer else jnp.asarray(d), data)
        difference = relu_features(own, source)[..., feature] - relu_features(own, x)[..., feature]
        return jnp.where(mask, x + difference[..., None] * own["W_dec"][feature], x)

    with jax.enable_x64(True):
        got = patch_grid(model(cfg), cfg, prompts(cfg), grid, METRIC, view=view).metric
        for i in range(7):
            terms = {s: Terms(*(a[i::7] for a in t)) for s, t in grid.terms.items()}
            terms = {s: t._replace(unit=np.full_like(t.unit, -1)) for s, t in terms.items()}
            one = partial(change, feature=i)
            want = naive_grid(model(cfg), cfg, prompts(cfg), grid._replace(terms=terms), METRIC, change=one)
            assert np.abs(got[:, i].reshape(want.shape) - want).max() <= 1e-10


def test_neurons_along_an_axis():
    cfg = MODELS["mlp"]
    check(cfg, each("blocks.mlp.post", cfg, P, over=("layer", "neuron")))


def test_one_device_gives_what_four_do():
    """Spread over devices, of which none is idle as long as there are lanes: here three, in one layer."""
    cfg = MODELS["mlp"]
    params, seen = model(cfg, jnp.float32), prompts(cfg)
    assert len(jax.devices()) == 4
    for grid in (each("blocks.resid_pre", cfg, P), each("blocks.resid_pre", cfg, P, layers=(1,))):
        one, four = (patch_grid(params, cfg, seen, grid, METRIC, devices=jax.devices()[:n]).metric for n in (1, 4))
        assert np.allclose(one, four, atol=1e-6)
    assert len(plan_grid(params, cfg, seen, grid, METRIC).layout.cell) == 3


def test_no_patch_changes_nothing_and_all_patches_give_the_other_run():
    cfg = MODELS["gated, windowed, scaled rotary"]
    with jax.enable_x64(True):
        seen, params = prompts(cfg), model(cfg)
        both = each("blocks.resid_pre", cfg, P, over=("layer",))
        got = patch_grid(params, cfg, seen, both, METRIC)
        same = patch_grid(params, cfg, seen._replace(clean=seen.corrupted), both, METRIC)
    assert np.abs(got.metric - got.clean).max() < 1e-12
    assert np.abs(same.effect).max() < 1e-12
    assert np.abs(got.normalised - 1).max() < 1e-12


def test_corruption_by_noise():
    cfg = MODELS["mlp"]
    with jax.enable_x64(True):
        noise = jnp.asarray(np.random.default_rng(4).normal(size=(B, P, cfg.d_model)))
        noise = noise.at[:, 2:].set(0)
        tokens, params = prompts(cfg).clean, model(cfg)
        seen = prompts_of(tokens, tokens, noise=noise)
        got = patch_grid(params, cfg, seen, each("blocks.resid_pre", cfg, P), METRIC)
        rows = params["embed"]["W_E"][tokens] + noise
        noisy = taps.edit_with(transformer.apply, {"embed": lambda x, _: rows})(params, tokens, cfg)
        one_place = taps.edit_with(
            transformer.apply, {"embed": lambda x, _: rows.at[:, 1].set(params["embed"]["W_E"][tokens[:, 1]])}
        )(params, tokens, cfg)
    assert np.allclose(got.corrupted, METRIC.of(noisy[:, -1]), atol=1e-12)
    assert np.allclose(got.metric[0, 1], METRIC.of(one_place[:, -1]), atol=1e-12)
    assert np.allclose(got.metric[0, 2:], got.corrupted, atol=1e-12)


def test_cut_to_fit_and_compiled_once(compilations):
    cfg = MODELS["mlp"]
    grid, params, seen = each("blocks.resid_pre", cfg, P), model(cfg, jnp.float32), prompts(cfg)
    whole = patch_grid(params, cfg, seen, grid, METRIC)
    others = seen._replace(clean=jnp.asarray(np.array(seen.clean)[::-1]))
    with compilations() as names:
        again = patch_grid(params, cfg, seen, grid, METRIC)
        other = patch_grid(params, cfg, others, grid, METRIC, "noising")
    assert not names
    assert np.array_equal(again.metric, whole.metric)
    assert not np.array_equal(other.metric, whole.metric)
    plan = plan_grid(params, cfg, seen, grid, METRIC, memory=TIGHT)
    assert plan.examples == 1 and plan.layout.cell.shape[1] == 1
    assert np.allclose(patch_grid(params, cfg, seen, grid, METRIC, memory=TIGHT).metric, whole.metric, atol=1e-5)


def test_places_of_each_example_are_cut_with_it():
    cfg = MODELS["mlp"]
    params, seen = model(cfg, jnp.float32), prompts(cfg)
    places = {"first": [0, 2], "second": [4, 1]}
    grid = each("blocks.resid_pre", cfg, P, positions=places)
    whole = patch_grid(params, cfg, seen, grid, METRIC).metric
    assert plan_grid(params, cfg, seen, grid, METRIC, memory=TIGHT).examples == 1
    assert np.allclose(patch_grid(params, cfg, seen, grid, METRIC, memory=TIGHT).metric, whole, atol=1e-5)
    assert not np.allclose(whole[..., 0, :], whole[..., 1, :], atol=1e-3)


def test_other_sources():
    """Zeros and means over a reference set, against a full pass with the same in its place."""
    cfg = MODELS["mlp"]
    with jax.enable_x64(True):
        params, seen, grid = model(cfg), prompts(cfg), each("blocks.attn.z", cfg, P, over=("layer", "head"))
        acts = record_source(params, Input(seen.clean, None), cfg, seen, ("blocks.attn.z",))
        for source in (zero_source(acts), mean_source(acts, B)):
            got = patch_grid(params, cfg, seen, grid, METRIC, source=source)
            want = naive_grid(params, cfg, seen, grid, METRIC, source=source)
            assert np.abs(got.metric.reshape(want.shape) - want).max() <= 1e-10
    assert np.allclose(mean_source(acts, B)["blocks.attn.z"][:, 0], np.mean(acts["blocks.attn.z"], 1))


def test_padding_is_no_part_of_a_mean():
    cfg = MODELS["mlp"]
    seen, sites = prompts(cfg, padded=True), ("blocks.attn.z", "blocks.attn.pattern")
    acts = record_source(model(cfg, jnp.float32), Input(seen.clean, None), cfg, seen, sites)
    mean = mean_source(acts, 3, seen.positions)
    z, pattern = (np.asarray(mean[site]) for site in sites)
    assert z.shape[1] == pattern.shape[1] == 3
    assert np.allclose(z[:, 0, :2], acts["blocks.attn.z"][:, 0, :2], atol=1e-6)  # the second example's padding
    assert np.allclose(z[:, 1, 2:], acts["blocks.attn.z"][:, :, 2:].mean(1), atol=1e-6)
    assert np.allclose(pattern[:, 0, :, :2], acts["blocks.attn.pattern"][:, 0, :, :2], atol=1e-6)


def test_few_operations_are_wasted():
    cfg = dataclasses.replace(MODELS["mlp"], n_context=64, n_layers=6)
    seen = prompts(cfg, columns=16)
    for site, over in (("blocks.resid_pre", None), ("blocks.attn.z", ("layer", "head")), ("blocks.attn.q", None)):
        work = plan_grid(model(cfg, jnp.float32), cfg, seen, each(site, cfg, 16, over=over), METRIC).work
        assert 0.5 < work.done / work.cone < 1.2


ERRORS = {
    "no site of that name": lambda cfg: each("blocks.resid_prex", cfg, P),
    "this model has no such site": lambda cfg: each("blocks.attn.rot_q", cfg, P),
    "has no axis 'head'": lambda cfg: each("blocks.resid_pre", cfg, P, over=("layer", "head")),
    "columns 0 to 4": lambda cfg: each("blocks.resid_pre", cfg, P, positions=(5,)),
    "layer 3: the model has layers 0 to 2": lambda cfg: each("blocks.resid_pre", cfg, P, layers=(3,)),
    "set 1 has no nodes": lambda cfg: at_once([[Node("blocks.mlp.out", 0)], []], cfg),
    "position 5 is beyond the last, 4": lambda cfg: run_sets(cfg, Node("blocks.mlp.out", 0, 5)),
    "head 4 is beyond the last, 3": lambda cfg: run_sets(cfg, Node("blocks.attn.z", 0, unit=4)),
    "position = -1: counted from 0": lambda cfg: run_sets(cfg, Node("blocks.mlp.out", 0, -1)),
    "has no units, so unit = 2": lambda cfg: run_sets(cfg, Node("blocks.mlp.out", 0, unit=2)),
    "positions for 3 examples": lambda cfg: run_sets(cfg, Node("blocks.mlp.out", 0, [0, 1, 2])),
    "source has no 'blocks.resid_pre'": lambda cfg: run(cfg, source={"blocks.attn.z": np.zeros(3)}),
    r"source of 'blocks.resid_pre' is \(3,\)": lambda cfg: run(cfg, source={"blocks.resid_pre": np.zeros(3)}),
    "needs about .* MB, .* for what is recorded, more than memory": lambda cfg: run(cfg, memory=10.0),
    "direction = 'denoise'.*denoising": lambda cfg: run(cfg, direction="denoise"),
    "reads token 99 of example 1": lambda cfg: run(cfg, metric=metrics.probability(np.array([1, 99]))),
    "the basis has 5 rows; 'blocks.resid_pre' has width 12": lambda cfg: run(cfg, view=views.subspace(np.eye(5, 2))),
    "a view by layer has data of shape .2, 12, 3.; the model has 3 layers": lambda cfg: run(
        cfg, view=views.subspace(np.linalg.qr(np.ones((2, 12, 3)) + np.eye(12, 3))[0])
    ),
    "two things of one place": lambda cfg: run_at(
        cfg,
        [Node("blocks.resid_pre", 1), Node("blocks.resid_post", 1)],
        views.subspace(np.tile(np.eye(12, 3), (3, 1, 1))),
    ),
    "the view cannot encode 'blocks.resid_pre', of width 12": lambda cfg: run(
        cfg, view=views.features(relu_features, weighted_features, {"W_enc": np.ones((5, 7)), "b": np.ones(7)}, 7)
    ),
    "its size is 6": lambda cfg: run(
        cfg,
        view=views.features(
            relu_features,
            weighted_features,
            {"W_enc": np.ones((12, 7)), "b": np.ones(7), "W_dec": np.ones((7, 12))},
            6,
        ),
    ),
    "has no axis 'coordinate'": lambda cfg: each(
        "blocks.attn.z", cfg, P, over=("layer", "head", "coordinate"), n_coordinates=2
    ),
    "neurons or coordinates": lambda cfg: each(
        "blocks.mlp.post", cfg, P, over=("layer", "neuron", "coordinate"), n_coordinates=2
    ),
    "2 labels for 1 sets": lambda cfg: at_once([[Node("blocks.mlp.out", 0)]], cfg, labels=("a", "b")),
    "other values for 'blocks.resid_pre' than": lambda cfg: run_at(
        cfg,
        [Node("blocks.resid_pre", 1), Node("blocks.resid_post", 1)],
        source={"blocks.resid_pre": np.zeros((3, B, P, 12)), "blocks.resid_post": np.ones((3, B, P, 12))},
    ),
    "off orthonormal": lambda cfg: views.subspace(np.ones((12, 2))),
    "position by position": lambda cfg: prompts_of(np.zeros((2, 4)), np.zeros((2, 5))),
    "data of 3 examples": lambda cfg: run(cfg, metric=metrics.probability(np.array([1, 2, 3]))),
    "is nan on example 1": lambda cfg: run(cfg, metric=metrics.custom("half", half)),
}


def run_at(cfg, nodes, view=None, source=None):
    grid = at_once([nodes], cfg)
    return patch_grid(model(cfg, jnp.float32), cfg, prompts(cfg), grid, METRIC, view=view, source=source)


def run_sets(cfg, node):
    return patch_grid(model(cfg, jnp.float32), cfg, prompts(cfg), at_once([[node]], cfg), METRIC)


def half(logits, _):
    return logits[:, 0] * jnp.array([1.0, jnp.nan])


def run(cfg, metric=METRIC, **options):
    return patch_grid(model(cfg, jnp.float32), cfg, prompts(cfg), each("blocks.resid_pre", cfg, P), metric, **options)


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises(InputError, match=message) as error:
        ERRORS[message](MODELS["mlp"])
    assert "\n" not in str(error.value)
