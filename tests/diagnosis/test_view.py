"""Views: what a tier forbids raises, interventions are those of taps, and nobody runs the model past the view."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.diagnosis.answering import answer_logits
from interp_jax.diagnosis.declared import declare
from interp_jax.diagnosis.detectors import DETECTORS
from interp_jax.diagnosis.diagnosers import integrated_gradients, paired_gradients, patched_gradients
from interp_jax.diagnosis.diagnosers_io import SHIPPED, every_diagnoser, load_diagnoser
from interp_jax.diagnosis.examination import Diagnoser, Examinees, Reference, diagnoser_of, examine
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.profiles import others
from interp_jax.diagnosis.student import Student, model_config
from interp_jax.diagnosis.view import AccessError, Swap, View
from interp_jax.errors import InputError
from interp_jax.models import transformer

FAMILY = load_family("leak")
CFG = model_config(FAMILY, Student(d_model=8, n_heads=2, d_mlp=8))
SITE = "blocks.resid_pre"


@cache
def sample():
    params = jax.vmap(lambda key: transformer.init(key, CFG))(jax.random.split(jax.random.key(0), 4))
    params = jax.tree.map(lambda leaf: 2 * leaf, params)  # so that answers are not all alike
    x = pools_of(FAMILY).id_held.x[::60]
    return Examinees(
        "leak", CFG, 11, params, np.array([0, 0, 1, 1]), x, (declare(FAMILY, "f", x), declare(FAMILY, "g", x))
    )


def view(tier, r=0):
    return View(sample().member(r).params, CFG, 11, sample().x, tier, "mine")


FORBIDDEN = {
    0: [
        lambda v: v.weights,
        lambda v: v.record([SITE]),
        lambda v: v.logits_with({}),
        lambda v: v.input_gradient(lambda logits: logits[:, 0]),
        lambda v: v.untrained(jax.random.key(0)),
        lambda v: setattr(v, "tier", 3),
        lambda v: setattr(v, "_x", v.tokens[:1]),
    ],
    1: [
        lambda v: v.swapped(None, [Swap(SITE, 1)]),
        lambda v: v.logits_with(jax.tree.map(lambda leaf: leaf + 0, v.weights)),
        lambda v: v.logits_with({name: part for name, part in v.weights.items() if name != "embed"}),
    ],
    2: [
        lambda v: v.logits_of_tokens(v.tokens),
        lambda v: v.embedded(v.tokens),
        lambda v: v.logits_of_stream(jnp.zeros((1, 5, 8))),
        lambda v: v.swapped(None, [Swap(SITE, 0)]),
        lambda v: v.swapped(None, [Swap("embed", 1)]),
        lambda v: v.swapped(None, [Swap(SITE, jnp.int32(1))]),
        lambda v: v.swapped(np.array([0, 1]), [Swap(SITE, 1, np.array([0, 1, 2]))]),
        lambda v: v.logits(np.zeros((2, 5), int)),
        lambda v: v.logits(np.zeros(2)),
        lambda v: v.logits(np.array([v.n])),
        lambda v: v.logits(np.array([-1])),
        lambda v: v.swapped(None, [Swap(SITE, 1, v.tokens)]),
        lambda v: v.swapped(None, [Swap(SITE, 1, None, jnp.full((5, 1), 1.5))]),
        lambda v: v.swapped(None, [Swap(SITE, 1, None, -1.0)]),
    ],
}


@pytest.mark.parametrize(("tier", "ask"), [(tier, ask) for tier, asks in FORBIDDEN.items() for ask in asks])
def test_what_a_tier_forbids_raises(tier, ask):
    with pytest.raises(AccessError, match="mine"):
        ask(view(tier))


def test_what_it_allows_is_what_the_model_says():
    index = np.array([3, 1])

    @jax.jit
    def said(params):
        v = View(params, CFG, 11, sample().x, 3)
        every = (
            v.logits(),
            v.logits_of_tokens(v.tokens),
            v.logits_of_stream(v.embedded(v.tokens)),
            v.logits_with(params),
        )
        recorded, seen = v.record({SITE: (1,)}, index)
        return transformer.apply(params, v.tokens, CFG)[:, -1, :11], every, (v.logits(index), recorded), seen[SITE]

    whole, every, some, seen = said(sample().member(0).params)
    for one in every:
        np.testing.assert_allclose(one, whole, atol=1e-5)
    for one in some:
        np.testing.assert_allclose(one, whole[index], atol=1e-5)
    assert seen.shape == (1, 2, 5, 8)


def test_paired_gradients_are_the_mean_of_those_at_both_ends():
    declared = sample().declared[0]
    v = View(jax.tree.map(lambda leaf: leaf / 2, sample().member(0).params), CFG, 11, sample().x, 3)
    there = np.asarray(others(v, declared, 1)[0])
    own = np.eye(11)[np.asarray(declared.labels)]
    x = v.embedded(v.tokens)
    step = 1e-2 * (x - x[there])
    odds = lambda stream: np.asarray(((own - own[there]) * v.logits_of_stream(stream)).sum(-1))
    slopes = [(odds(at + step) - odds(at - step)) / 2e-2 for at in (x, x[there])]
    got = paired_gradients.along(v, declared).sum(1)
    np.testing.assert_allclose(got, np.mean(slopes, axis=0), rtol=0.02, atol=0.02)


def test_gradients_are_those_of_finite_differences():
    @jax.jit
    def both(params, step):
        v = View(params, CFG, 11, sample().x, 3)
        stream, gradient = v.input_gradient(lambda logits: logits[:, 2])
        up, down = (v.logits_of_stream(stream + sign * 0.03 * step)[:, 2].sum() for sign in (1, -1))
        return (gradient * step).sum(), (up - down) / 0.06

    step = np.random.default_rng(0).normal(size=(len(sample().x), 5, 8)).astype(np.float32)
    slope, quotient = both(sample().member(0).params, step / np.linalg.norm(step))
    assert float(slope) == pytest.approx(float(quotient), rel=2e-2)


def test_interventions_are_those_of_taps():
    index, source = np.array([0, 1, 2]), np.array([5, 6, 7])
    where = (jnp.arange(5) == 2)[None, :, None]
    model = lambda params, x: transformer.apply(params, x, CFG)[:, -1, :11]

    @jax.jit
    def all_of_it(params):
        v = View(params, CFG, 11, sample().x, 2)
        _, there = taps.record(model, {SITE: (1,)})(params, v.tokens)
        edit = taps.Edit("replace", there[SITE][0][source], where, 1)
        by_hand = taps.edit(model)({SITE: edit}, params, v.tokens[index])
        whole = (jnp.eye(8), jnp.eye(8))
        pairs = (
            (v.swapped(index, [Swap(SITE, 1, source, where)]), by_hand),
            (v.swapped(index, [Swap(SITE, 1, index)]), v.logits(index)),
            (v.swapped(index, [Swap(SITE, 1, source)]), v.logits(source)),
            (v.swapped(index, [Swap(SITE, 1, source, None, whole)]), v.logits(source)),
            (v.swapped(index, [Swap(SITE, 1, source), Swap(SITE, 1, index)]), v.logits(index)),
        )
        said, seen = v.swapped(index, [Swap(SITE, 1)], {SITE: (1,)})
        return pairs, said, seen[SITE][0], there[SITE][0].mean(0)

    pairs, said, put, mean = all_of_it(sample().member(0).params)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(put, np.broadcast_to(mean, (3, 5, 8)), atol=1e-5)
    assert said.shape == (3, 11) and np.abs(pairs[0][0] - pairs[1][0]).max() > 1e-3


def test_integrals_are_complete():
    """They sum to the change of the log-odds from the other example to this one (Sundararajan et al. 2017)."""
    declared = jax.tree.map(jnp.asarray, sample().declared[0])

    @jax.jit
    def found(params):
        v = View(params, CFG, 11, sample().x, 3)
        return v.logits(), integrated_gradients.along(v, declared), -patched_gradients.along(v, declared)

    gentle = jax.tree.map(lambda leaf: leaf / 2, sample().member(0).params)  # whose norms bend the path little
    logits, *along = (np.asarray(one) for one in found(gentle))
    there = np.asarray(others(view(0), declared, 1)[0])
    labels, rows = np.asarray(declared.labels), np.arange(len(logits))
    assert (labels[there] != labels).all()
    odds = lambda logits: logits[rows, labels] - logits[rows, labels[there]]
    change = odds(logits) - odds(logits[there])
    for one in along:
        assert np.abs(one.sum(1) - change).max() < 0.05 * np.abs(change).max()


def test_losses_of_detectors_are_shares_of_what_falls_beside_the_rule():
    influence = jnp.array([0.9, 0.9, 0.0, 0.0, 0.0])
    label = jnp.asarray(sample().declared[0].labels)

    @jax.jit
    def found(params):
        v = View(params, CFG, 11, sample().x, 1)
        own = jax.nn.one_hot(label, 11)
        stream, gradient = v.input_gradient(lambda logits: (own * logits).sum(-1))
        _, seen = v.record(["blocks.attn.pattern"])
        losses = [DETECTORS[name](params, v.tokens, label, influence, CFG, 11) for name in ("gradient", "attention")]
        return losses, jnp.abs((stream * gradient).sum(-1)), seen["blocks.attn.pattern"][:, :, :, -1]

    losses, slopes, pattern = jax.device_get(found(sample().member(1).params))
    for loss, weight in zip(losses, (slopes, pattern.mean((0, 2))), strict=True):
        expected = (weight[:, 2:4].sum(1) / weight[:, :4].sum(1)).mean()  # the last position is the model's own
        assert loss == pytest.approx(expected, rel=1e-3) and 0 < loss < 1


# ------------------------------------------------------------------------------------------------ the harness


def diagnoser(score, tier=1, **more):
    return Diagnoser("mine", tier, 1, score, **more)


CHEATS = {
    "made up": lambda v, d, key: transformer.apply(v.weights, jnp.zeros((1, 5), jnp.int32), CFG).sum(),
    "in a vmap": lambda v, d, key: jax.vmap(lambda x: transformer.apply(v.weights, x[None], CFG).sum())(
        v.tokens
    ).sum(),
    "from layer 0": lambda v, d, key: transformer.blocks(v.weights, jnp.zeros((1, 5, 8)), CFG)[0].sum(),
    "answers": lambda v, d, key: answer_logits(v.weights, jnp.zeros((1, 5), jnp.int32), CFG, 11).sum(),
    "within a question": lambda v, d, key: v.input_gradient(
        lambda logits: logits[:, 0] + answer_logits(v.weights, v.tokens, CFG, 11)[:, 0]
    )[0].sum(),
}


@pytest.mark.parametrize("how", CHEATS)
def test_a_diagnoser_that_runs_the_model_past_the_view_is_caught(how):
    with pytest.raises(AccessError, match="past the view"):
        examine(diagnoser(CHEATS[how]), sample())


def test_a_diagnoser_that_makes_a_view_of_its_own_inputs_is_caught():
    own = lambda v, d, key: View(v.weights, v.cfg, v.labels, jnp.zeros((1, 5), jnp.int32), 1, "its own").logits().sum()
    with pytest.raises(AccessError, match="its own: a view of inputs of one's own is made"):
        examine(diagnoser(own), sample())
    assert np.isfinite(examine(diagnoser(lambda v, d, key: v.untrained(key).logits().sum()), sample())).all()


def test_a_diagnoser_that_says_nan_is_named_with_its_model():
    nan = lambda v, d, key: jnp.where(
        v.weights["embed"]["W_E"][0, 0] == sample().member(2).params["embed"]["W_E"][0, 0], jnp.nan, 0.0
    )
    with pytest.raises(InputError, match=r"'mine' says NaN of model 2 of family 'leak' \(seed 1, f declared\)"):
        examine(diagnoser(nan), sample())
    with pytest.raises(InputError, match="'mine' says what is not finite of model 0"):
        examine(diagnoser(lambda v, d, key: -jnp.inf), sample())
    with pytest.raises(InputError, match=r"must have shape \[\], not \[11\]"):
        examine(diagnoser(lambda v, d, key: v.tokens[:, 0].astype(float)), sample())


def test_members_of_a_pair_share_randomness_whichever_rule_is_declared():
    found = examine(diagnoser(lambda v, d, key: jax.random.uniform(key)), sample())
    assert (found == found[:, :1]).all() and found[0, 0] == found[1, 0] != found[2, 0]
    on_host = examine(diagnoser(lambda v, d, key: float(jax.random.uniform(key)), on_host=True), sample())
    np.testing.assert_array_equal(on_host, found)


def test_what_is_fitted_on_other_families_reaches_the_score():
    reference = Reference(sample(), np.array([[False, True]] * 4))
    seen = []

    def fit(references, key):
        seen.append(references)
        return jnp.float32(3)

    fitting = diagnoser(lambda v, d, key, fitted: fitted + 0.0, fit=fit)
    assert (examine(fitting, sample(), [reference]) == 3).all() and seen == [[reference]]
    with pytest.raises(InputError, match="there are none"):
        examine(fitting, sample())


def test_diagnosers_that_come_along_say_what_they_say_they_do():
    """The plain ones against NumPy in float64; all with a finite number for each model and rule."""
    some, site = sample(), "blocks.resid_post"
    recorded = jax.jit(jax.vmap(lambda params: View(params, CFG, 11, sample().x, 1).record({site: (1,)})))
    said, seen = recorded(some.params)
    logits, last = np.asarray(said, np.float64), np.asarray(seen[site], np.float64)[:, 0, :, -1]
    labels = np.asarray(some.declared[0].labels)
    rows = np.arange(len(labels))
    own = logits[:, rows, labels]
    rest = np.where(np.arange(11) == labels[:, None], -np.inf, logits).max(-1)
    means = np.stack([last[:, labels == labels[n]].mean(1) for n in rows], axis=1)
    weights = [np.asarray(leaf, np.float64).reshape(4, -1) for leaf in jax.tree.leaves(some.params)]
    expected = {
        "behaviour": (logits.argmax(-1) != labels).mean(1),
        "loss": (own - np.log(np.exp(logits).sum(-1))).mean(1),
        "margin": (own - rest).mean(1),
        "weight_norm": -np.sqrt(sum((one**2).sum(1) for one in weights)),
        "within_class_variance": ((last - means) ** 2).sum((1, 2))
        / ((last - last.mean(1, keepdims=True)) ** 2).sum((1, 2)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(
            examine(load_diagnoser(name), some), np.repeat(value[:, None], 2, 1), rtol=2e-4, atol=2e-4
        )
    assert set(expected) < set(SHIPPED)


def test_cheap_ones_come_first():
    costs = [one.cost for one in every_diagnoser()]
    assert costs == sorted(costs) and len(costs) == len(SHIPPED) and costs[0] < 1 + costs[-1] / 100


def test_a_file_is_no_diagnoser_without_its_names(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("TIER, COST = 7, 1\nscore = lambda view, declared, key: 0.0\n")
    with pytest.raises(InputError, match="TIER = 7"):
        load_diagnoser(str(path))
    path.write_text("TIER, COST = 1, 1\n")
    with pytest.raises(InputError, match="it lacks score"):
        load_diagnoser(str(path))
    with pytest.raises(InputError, match="did you mean 'margin'"):
        load_diagnoser("margins")
    assert diagnoser_of(patched_gradients).name == "patched gradients"
