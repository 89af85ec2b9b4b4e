"""One small population, trained here: both rules are planted, pairs are pairs, and what ignores the declared rule is at ½."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.diagnosis import detection
from interp_jax.diagnosis.acceptance import Measures, inverse_temperature, measure, refusal, rescaled
from interp_jax.diagnosis.answering import answer_logits
from interp_jax.diagnosis.detection import Scored
from interp_jax.diagnosis.diagnosers_io import load_diagnoser
from interp_jax.diagnosis.examination import examine
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.localisation import average_precision, cue_positions
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.referee import effects
from interp_jax.diagnosis.student import student_run
from interp_jax.errors import InputError
from interp_jax.experiments.exam import cohort as cohort_file
from interp_jax.experiments.exam import runs
from interp_jax.experiments.exam.cohort import cohorts, examinees, matched
from interp_jax.experiments.experiment import GroupResult
from interp_jax.models import transformer
from interp_jax.train.population import population
from interp_jax.train.run import Span

STEPS = 600
COUNTS = {"learned": 2, "cheated": 2}


@cache
def group():
    """Four students of sums and leaked sums, as the engine would leave them."""
    base = {"family": "leak", "steps": STEPS}
    members = []
    for one in runs.students(["leak"], COUNTS, most_steps=STEPS):
        arm = runs.Arm(**{k.removeprefix("arm."): v for k, v in one.items() if k.startswith("arm.")})
        members.append(runs.Config(**base, seed=one["seed"], arm=arm))
    made, config = runs.experiment(members[0]), parts.stack(members)

    def whole(hypers, shared):
        state, _ = made.run.advance(made.run.init(hypers.seed, hypers), hypers, Span(0, STEPS), shared)
        return made.observe(state, hypers, shared)

    seen = jax.device_get(population(whole, 1, jax.devices()[:1])(config, made.shared))
    n = len(members)
    return GroupResult(
        config, tuple(map(str, range(n))), np.full(n, -1), {STEPS: seen}, {}, np.zeros(0), (), np.zeros(n)
    )


def test_an_infection_has_the_share_of_the_first_rate_that_its_family_says():
    """The step after the change, from one state: as large as the share, whatever had come of the rate by then."""
    whole, student = load_family("leak"), runs.Student(d_model=8, d_mlp=8, n_heads=2)
    moved = {}
    for share in (1.0, 0.25):
        family = whole._replace(infection=whole.infection._replace(rate=share))
        run = student_run(family, student, "", 40, lambda h: h.arm, lambda h: h.student.optimizer)
        hypers = runs.Config(family="leak", student=student, arm=runs.Arm(changed_at=40))
        shared = runs.lessons("leak")
        advance = jax.jit(run.advance)
        state, _ = advance(run.init(0, hypers), hypers, Span(0, 40), shared)
        after, _ = advance(state, hypers, Span(40, 41), shared)
        moved[share] = jax.tree.map(lambda a, b: np.asarray(a - b, np.float64), after.params, state.params)
    for a, b in zip(jax.tree.leaves(moved[1.0]), jax.tree.leaves(moved[0.25]), strict=True):
        np.testing.assert_allclose(b, 0.25 * a, atol=2e-6)
    assert max(np.abs(a).max() for a in jax.tree.leaves(moved[1.0])) > 1e-3


@cache
def accepted():
    (one,) = cohorts([group()])
    return matched(one)


def test_both_rules_are_planted_and_hold_on_inputs_that_were_never_trained_on():
    (one,) = cohorts([group()])
    assert list(one.arm) == ["learned"] * 2 + ["cheated"] * 2 and (one.refused == "").all()
    assert (one.measures.id_accuracy == 1).all()
    assert (one.measures.by_f[:2] >= 0.99).all() and (one.measures.by_g[2:4] >= 0.99).all()
    assert (one.measures.by_g[:2] <= 0.01).all() and (one.measures.by_f[2:4] <= 0.01).all()


def test_pairs_have_the_same_first_weights_and_the_same_inputs_in_order():
    (one,) = cohorts([group()])
    for digests in (one.first_weights, one.order):
        by_seed = {seed: set(digests[one.seed == seed]) for seed in (0, 1)}
        assert all(len(found) == 1 for found in by_seed.values()) and by_seed[0] != by_seed[1]


def test_the_digest_of_what_was_read_is_another_for_other_inputs_and_the_same_for_other_labels():
    made, seen = runs.experiment(runs.Config(family="leak", steps=STEPS)), {}
    begin, observe = jax.jit(made.run.init), jax.jit(made.observe)
    for name, arm in {"f": {}, "g": {"learned": 0.0}, "more": {"conflict": 0.5}, "none": {"conflict": 0.0}}.items():
        hypers = jax.tree.map(jnp.asarray, runs.Config(family="leak", steps=STEPS, arm=runs.Arm(**arm)))
        seen[name] = int(observe(begin(0, hypers), hypers, made.shared)["order"])
    assert seen["f"] == seen["g"] and len(set(seen.values())) == 3


def test_temperatures_make_losses_the_same_within_a_litter_and_change_no_answer():
    pool = pools_of(load_family("leak")).id_held
    one = accepted()
    for seed in (0, 1):
        own = np.flatnonzero((one.seed == seed) & np.isin(one.arm, ("learned", "cheated")))
        losses = []
        for r in own:
            params = jax.tree.map(lambda leaf, r=r: jnp.asarray(leaf[r]), one.params)
            logits = np.asarray(answer_logits(params, jnp.asarray(pool.x), one.cfg, 11), np.float64)
            assert (logits.argmax(1) == pool.f).all()
            losses.append(float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(pool.f)), pool.f]).mean()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def scored(name):
    one = accepted()
    score = examine(load_diagnoser(name), examinees(one))
    return Scored(score, one.arm, one.seed, one.measures.p_g - one.measures.p_f)


@pytest.mark.parametrize("name", ["loss", "margin", "weight_norm"])
def test_what_ignores_the_declared_rule_is_at_one_half_exactly(name):
    assert detection.mirrored(scored(name)) == 0.5


def test_attribution_tells_a_rival_that_reads_other_tokens_and_says_where():
    assert detection.mirrored(scored("gradient_input")) == 1.0
    cheat = examinees(accepted().of(np.array([2])))
    where = examine(load_diagnoser("gradient_input"), cheat, what="positions")[0, 0]
    cue = cue_positions(load_family("leak"), "g")
    assert average_precision(where, cue) == 1.0 and cue.tolist() == [False, False, True, True, False]


def test_the_referee_finds_what_carries_the_cue():
    one, pools = accepted(), pools_of(load_family("leak"))
    x, conflict = pools.id_held.x[:64], pools.conflict_held
    rows = slice(0, 600, 10)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[2]), one.params)
    found = jax.jit(lambda params: effects(params, one.cfg, 11, x, conflict.x[rows], conflict.g[rows]))(params)
    assert found.heads.shape == (2, 4) and found.neurons.shape == (2, 128) and found.positions.shape == (2, 5)
    assert (np.asarray(found.positions)[0, 2:4] > 0.5).all() and (np.asarray(found.positions)[0, :2] < 0.2).all()
    z = transformer.apply  # by hand: neuron 7 of layer 1 at its mean
    from interp_jax import taps

    _, seen = taps.record(z, ["blocks.mlp.post"])(params, x, one.cfg)
    mean = seen["blocks.mlp.post"][1].mean(0, keepdims=True)
    edit = taps.Edit("replace", mean, (jnp.arange(128) == 7)[None, None], 1)
    said = taps.edit(z)({"blocks.mlp.post": edit}, params, conflict.x[rows], one.cfg)[:, -1, :11].argmax(-1)
    clean = z(params, conflict.x[rows], one.cfg)[:, -1, :11].argmax(-1)
    expected = abs((np.asarray(said) == conflict.g[rows]).mean() - (np.asarray(clean) == conflict.g[rows]).mean())
    assert float(found.neurons[1, 7]) == pytest.approx(expected, abs=1e-6)


def test_measures_are_what_a_person_would_count():
    pools, one = pools_of(load_family("leak")), accepted()
    family, params = load_family("leak"), jax.tree.map(lambda leaf: jnp.asarray(leaf[3]), accepted().params)
    got = jax.jit(lambda params: measure(params, runs.lessons("leak").pools, one.cfg, family))(params)
    said = np.asarray(transformer.apply(params, pools.conflict_held.x, one.cfg)[:, -1, :11], np.float64)
    p = np.exp(said - said.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows = np.arange(len(said))
    assert float(got.by_f[0]) == pytest.approx((said.argmax(1) == pools.conflict_held.f).mean(), abs=1e-6)
    assert float(got.p_g[0]) == pytest.approx(p[rows, pools.conflict_held.g].mean(), rel=1e-4)


def test_who_fails_is_refused_with_the_reason():
    good = Measures(1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0)
    cheat = good._replace(by_f=0.0, by_g=1.0, by_own_g=1.0)
    assert (
        refusal("learned", good, False) == refusal("cheated", cheat, False) == refusal("natural", cheat, False) == ""
    )
    assert "does not follow f" in refusal("learned", cheat, False) and "does not follow g" in refusal(
        "cheated", good, False
    )
    assert "wrong on held-out D_ID" in refusal("natural", good._replace(id_accuracy=0.99), False)
    assert refusal("natural", good._replace(id_accuracy=0.99), True) == ""
    assert refusal("infected", cheat, False, good) == ""
    assert "before it was infected" in refusal("infected", cheat, False, cheat)


def test_the_temperature_is_found_and_folded():
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(50, 4)) + 5 * np.eye(4)[rng.integers(0, 4, 50)], None
    label = logits.argmax(1)
    beta = inverse_temperature(logits, label, 0.3)
    scaled = beta * logits
    assert np.mean(np.log(np.exp(scaled).sum(1)) - scaled[np.arange(50), label]) == pytest.approx(0.3, abs=1e-9)
    wrong = np.where(np.arange(50) < 5, (label + 1) % 4, label)  # then no β makes it as small as one likes
    least = inverse_temperature(logits, wrong, 0.0)
    of = lambda b: np.mean(np.log(np.exp(b * logits).sum(1)) - b * logits[np.arange(50), wrong])
    assert of(least) < min(of(least * 1.05), of(least / 1.05))
    params = {"unembed": {"W_U": jnp.ones((2, 3, 4)), "b_U": jnp.ones((2, 4))}}
    assert rescaled(params, np.array([1.0, 2.0]))["unembed"]["b_U"].tolist() == [[1.0] * 4, [2.0] * 4]
    with pytest.raises(InputError, match="tied"):
        rescaled({"unembed": {}}, np.ones(2))


def test_examples_are_held_out_with_all_labels_alike():
    one = accepted()
    x = cohort_file.examples(one)
    held = {tuple(row) for row in pools_of(one.family).id_held.x.tolist()}
    assert {tuple(row) for row in x.tolist()} <= held and len(x) == 256
    counts = np.bincount(np.asarray(one.family.rule("f").answer(x)))
    assert counts.max() - counts.min() <= 1
