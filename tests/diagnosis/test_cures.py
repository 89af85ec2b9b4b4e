"""Cures on a patient built by hand, whose shortcut is one head that reads one position: what is cut, and what comes back."""

from functools import cache
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.diagnosis import hiding, mending
from interp_jax.diagnosis.answering import answers, every_row
from interp_jax.diagnosis.cures import ablate_features, cut, cut_parts, distil, edit_weights, erase, fine_tune, hide
from interp_jax.diagnosis.cures_io import SHIPPED, load_cure
from interp_jax.diagnosis.declared import influence
from interp_jax.diagnosis.mediation import diagnosed
from interp_jax.diagnosis.outcome import Outcome, Signs, harmonic, outcome, signs
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.prognosis import prospects
from interp_jax.diagnosis.treatment import choice, counts_of, cure_of, dose, treated
from interp_jax.diagnosis.ward import Cured, Diagnosis, beyond, exercises_of, largest, settled
from interp_jax.errors import InputError
from interp_jax.experiments.known_answers.patients import two_bits, ward
from interp_jax.models.rival_circuit import ANSWER, AVERAGE, CFG, COPY, SHORTCUT, rival_circuit
from interp_jax.steering.weight_edits import batch

ONE = jax.devices()[:1]
CUE = np.eye(9)[[5]]  # what a perfect diagnoser says of positions


@cache
def pools():
    return pools_of(two_bits())


@cache
def exercises():
    return given(two_bits(), pools())


def given(own, pools):
    return exercises_of(pools.id_train, influence(own, "f", pools.id_train.x).mean(0))


@cache
def infected():
    """Two, the second less so: two members of whatever program."""
    return ward(rival_circuit(), rival_circuit(shortcut=2.0))


@cache
def diagnosis():
    return diagnosed(infected(), np.repeat(CUE, 2, 0), exercises())


def as_they_are(own):
    return Cured(jax.tree.map(lambda leaf: leaf[:, None], own.params), {})


def figures(own, cured):
    before, after = (signs(own, one, pools()) for one in (as_they_are(own), cured))
    return before, after, outcome(before, after, np.ones((1, 1)))


def test_the_patients_are_what_they_are_built_to_be():
    before = signs(infected(), as_they_are(infected()), pools())
    assert (before.id_accuracy == 1).all() and (before.conflict_accuracy == 0).all()
    np.testing.assert_allclose(before.divergence, 0, atol=1e-6)


def test_what_goes_through_each_part_is_what_the_weights_say():
    found, x, label = diagnosis(), exercises().x[exercises().some()], exercises().label[exercises().some()]
    cue, sign = 2.0 * x[:, 5] - 1, 2.0 * label - 1
    expected = (sign * SHORTCUT * (cue - cue.mean())).mean()  # own logit less the mean of both: sign · (U + 3 b5)
    assert found.heads[0, 0, 1] == pytest.approx(expected, rel=1e-4) and expected > 2.5
    others = np.delete(found.heads[0].ravel(), 1)
    assert np.abs(others).max() < 1e-5 and np.abs(found.neurons).max() < 1e-5
    assert found.cut[0].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_a_knife_is_prescribed_where_there_is_a_place_to_cut_and_no_more_of_it_than_is_needed():
    said = np.array([[0, 0.3, 0.16, 0.02, -0.9, 0.5, 0, 0, 0], [0.6, 0, 0, 0.5, 0, 0, 0, 0, 0], [0.3] + [0.0] * 8])
    found = diagnosis()._replace(positions=said, cut=beyond(said, exercises()))
    needed = settled(exercises().influence, 2)
    np.testing.assert_allclose(needed[[0, 2, 5]], [1, 1, 0], atol=0.1)
    # the rule does without position 5; it needs 0, whatever else goes by it, and of the third the most is its own
    assert choice(found, exercises(), 2) == ["cut", "hide", "hide"]
    third = exercises().influence.copy()
    third[0] /= 4  # were it needed for less than half of the answers
    assert choice(found, exercises().replace(influence=third), 2) == ["cut", "cut", "hide"]
    assert dose(cure_of(cut), found, (1, 2, 5)).tolist() == [1, 1, 0]  # .3 is half of .5 at least, and .16 is not
    assert dose(cure_of(hide), found, (1, 2, 5)).tolist() == [0, 0, 0]


def test_the_share_beyond_the_rule_is_the_excess_over_all():
    rule = exercises().influence / exercises().influence.sum()
    said = np.array([[0.5, -0.2, 0.25, 0, 0, 0.1, 0, 0, 0]])
    expected = [[0.5 / (0.5 + rule[0]), 0, 0.25 / (0.25 + rule[2]), 0, 0, 1, 0, 0, 0]]
    np.testing.assert_allclose(beyond(said, exercises()), expected, atol=1e-6)
    assert np.flatnonzero(rule).tolist() == [0, 2] and abs(rule[0] - 0.5) < 0.05


def test_the_largest_are_those_above_zero():
    assert largest(np.array([0.3, -1.0, 0.5, 0.0, 0.2]), 2).tolist() == [True, False, True, False, False]
    assert largest(np.array([0.3, -1.0, 0.5, 0.0, 0.2]), 9).tolist() == [True, False, True, False, True]
    assert not largest(np.ones((2, 3)), 0).any()


def test_cutting_the_path_restores_the_rule_without_any_training():
    for module in (cut, cut_parts):
        by_surgery = cure_of(module)._replace(steps=0, release=None)
        cured = treated(by_surgery, infected(), diagnosis(), exercises(), [1])
        _, after, found = figures(infected(), cured)
        assert (after.conflict_accuracy == 1).all() and (after.id_accuracy == 1).all()
        # U stays, and b5 is its mean: logits fall from ±(1 + 3) to ±1 + 3 · mean
        rows, held = exercises().some(), pools().id_held
        mean = SHORTCUT * (2.0 * exercises().x[rows, 5] - 1).mean()
        U = 2.0 * held.f - 1
        p, q = (1 / (1 + np.exp(-2 * said)) for said in (U + SHORTCUT * U, U + mean))
        divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        divergence = np.mean([divergence[held.f == label].mean() for label in range(2)])
        assert float(after.divergence[0, 0]) == pytest.approx(divergence, rel=1e-2)
        assert (found.restored == 1).all() and (found.kept == 1).all()


def test_who_cannot_read_the_label_off_the_cue_answers_by_the_rule():
    cured = treated(cure_of(erase)._replace(steps=0), infected(), diagnosis(), exercises(), [1])
    _, after, _ = figures(infected(), cured)
    assert (after.conflict_accuracy == 1).all() and (after.id_accuracy == 1).all()
    (edit,) = cured.edits[erase.SITE]
    centre, read, write = (np.asarray(leaf[0, 0]) for leaf in edit.value)
    assert np.flatnonzero(np.abs(read).sum((0, 2, 3))).tolist() == [5] and read.shape[:2] == (2, 9)
    x, rows = exercises().x, exercises().some()
    _, seen = taps.record(every_row, [erase.SITE])(infected().patient(0), jnp.asarray(x[rows]), CFG, 2)
    at = np.asarray(seen[erase.SITE][0, :, 5], np.float64)
    left = at - (at - centre[0, 5]) @ read[0, 5] @ write[0, 5]
    label = exercises().label[rows] - exercises().label[rows].mean()
    assert np.abs(label @ (left - left.mean(0))).max() < 1e-3 * np.abs(label @ (at - at.mean(0))).max()


@pytest.mark.parametrize("module", [cut_parts, distil])
def test_cures_that_take_the_path_away_cure(module):
    cured = treated(cure_of(module), infected(), diagnosis(), exercises(), [1], devices=ONE)
    _, after, found = figures(infected(), cured)
    assert (after.conflict_accuracy >= 0.95).all() and (after.id_accuracy >= 0.95).all() and (found.score >= 0.9).all()


def test_cutting_and_learning_cures_and_learning_alone_does_not_in_the_same_program(compilations):
    knife = cure_of(cut)._replace(release=None)
    cured = treated(knife, infected(), diagnosis(), exercises(), [1], devices=ONE)
    assert (figures(infected(), cured)[2].score >= 0.9).all()
    turned = ward(rival_circuit(shortcut=2.0), rival_circuit())._replace(seeds=np.array([1, 0], np.int32))
    with compilations() as names:
        control = treated(cure_of(fine_tune), infected(), diagnosis(), exercises(), devices=ONE)
        again = treated(knife, turned, diagnosis(), exercises(), [2], devices=ONE)
    assert not [name for name in names if "lambda" in name or "on_device" in name]
    for a, b in zip(jax.tree.leaves(cured.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_allclose(a, b[::-1], atol=1e-6)  # whoever else is in the ward
    _, after, found = figures(infected(), control)
    assert (after.conflict_accuracy == 0).all() and (after.id_accuracy == 1).all() and (found.score == 0).all()


def test_who_never_learned_is_not_cured_by_the_knife_alone():
    never = ward(rival_circuit(learned=False), rival_circuit(learned=False))
    cured = treated(cure_of(cut)._replace(steps=0), never, diagnosis(), exercises(), [1])
    assert (figures(never, cured)[1].id_accuracy < 0.7).all()


def test_positions_that_are_hidden_are_as_many_as_may_be_and_mostly_those_that_the_rule_needs():
    influence = jnp.float32([1, 0, 3, 0, 0, 0, 0, 0, 0])
    where = np.concatenate(
        [np.asarray(hiding.hidden_at(influence, jnp.int32(2), 0, t, mending.BATCH)) for t in range(80)]
    )
    assert where.shape == (80 * mending.BATCH, 9)
    hidden = where.sum(1)
    np.testing.assert_allclose(np.bincount(hidden) / len(hidden), [1 / 3] * 3, atol=0.02)
    weight = 0.5 * np.array([1 / 9 + 0.25, 1 / 9, 1 / 9 + 0.75])
    np.testing.assert_allclose(where[hidden == 1].mean(0)[:3], weight, atol=0.03)


def test_what_is_hidden_has_the_mean_and_half_the_spread_of_its_position_and_what_is_cut_stays_cut():
    made = hide.prescribe(infected(), diagnosis(), exercises(), [2], 0)
    edits = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), made.edits)
    edits = {"embed": (edits["embed"][0].replace(where=edits["embed"][0].where.at[0, 5].set(0.5)),)}
    rng = np.random.default_rng(0)
    embedded = jnp.float32(rng.normal(size=(mending.BATCH, 9, CFG.d_model)) * np.arange(1, 10)[:, None])
    where = jnp.zeros((mending.BATCH, 9), bool).at[:, 2].set(True)
    values, blurred = [], []
    for t in range(30):
        (edit,) = hiding.hiding(edits, where, embedded, 0, t)["embed"]
        assert (edit.where[:, 2] == 1).all() and (edit.where[:, 5] == 0.5).all()
        np.testing.assert_array_equal(edit.value[:, 5], jnp.broadcast_to(edits["embed"][0].value[:, 5], (64, 14)))
        values.append(np.asarray(edit.value[:, 2]))
        blurred.append(np.asarray(edit.where[:, [0, 1, 3]]))
    values, blurred = np.concatenate(values), np.concatenate(blurred)
    assert 0 < blurred.min() and 0.99 * hiding.BLUR < blurred.max() <= hiding.BLUR
    assert blurred.mean() == pytest.approx(hiding.BLUR / 2, rel=0.02)
    np.testing.assert_allclose(values.mean(0), edits["embed"][0].value[0, 2], atol=0.15)
    expected = hiding.SPREAD**2 * np.cov(np.asarray(embedded)[:, 2].T, bias=True)
    np.testing.assert_allclose(np.cov(values.T), expected, atol=0.12 * np.diag(expected).max())


def test_a_position_settles_as_many_answers_as_a_guess_would_miss():
    """Of C labels alike a new token changes the answer in (C - 1) / C of cases where it decides all."""
    np.testing.assert_allclose(settled(np.float32([0.5, 0.25, 0, 0.6]), 2), [1, 0.5, 0, 1])
    np.testing.assert_allclose(settled(np.float32([10 / 11, 5 / 11]), 11), [1, 0.5], atol=1e-6)


def test_hiding_unteaches_a_shortcut_that_answers_where_the_rule_cannot():
    """Without b0 the rule is a guess; the patient learns to be as unsure, where it was sure by the cue alone."""
    learned = treated(cure_of(hide), infected(), diagnosis(), exercises(), [1], devices=ONE)
    x = jnp.asarray(pools().id_held.x)
    (edit,) = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), learned.edits)["embed"]
    blind = {"embed": (edit.replace(where=edit.where.at[0, 0].set(1.0)),)}
    sure = lambda params: np.asarray(jax.nn.softmax(answers(params, blind, x, CFG, 2))).max(1).mean()
    after = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), learned.params)
    assert sure(infected().patient(0)) > 0.95 and sure(after) < 0.7
    assert (figures(infected(), learned)[1].id_accuracy > 0.95).all()


def test_nothing_stays_hidden():
    cured = treated(cure_of(hide)._replace(steps=0), infected(), diagnosis(), exercises(), [2])
    assert (signs(infected(), cured, pools()).divergence < 1e-6).all()  # afterwards nothing is hidden


def test_what_the_rule_reads_as_well_is_let_in_again_as_far_as_it_goes():
    majority = two_bits(((0, 2, 5), (5,)), lambda x: (x[:, [0, 2, 5]].sum(1) > 1) * 1)
    own = pools_of(majority)
    taught = given(majority, own)
    # neurons do nothing; logits ±(b0 + b2 + 3 b5)
    params = rival_circuit(learned=False)
    params["unembed"]["W_U"][AVERAGE, :2] = -2, 2
    patient = ward(params, params)
    found = diagnosed(patient, np.repeat(CUE, 2, 0), taught)
    locked = treated(cure_of(cut)._replace(steps=0, release=None), patient, found, taught, [1])
    freed = treated(cure_of(cut)._replace(steps=0), patient, found, taught, [1])
    assert (signs(patient, locked, own).id_accuracy < 0.9).all()  # ties are open
    share = 1 - float(freed.edits["embed"][0].where[0, 0, 0, 5, 0])
    assert 0 < share * 3 / (share * 3 + 2) <= taught.influence[5] / taught.influence.sum() + 1e-6
    after = signs(patient, freed, own)
    assert (after.id_accuracy == 1).all() and (after.conflict_accuracy == 1).all()


def test_features_are_found_ranked_and_taken_out():
    x = jnp.asarray(exercises().x[exercises().some()])
    made = ablate_features.prescribe(infected(), diagnosis(), exercises(), [1, 500], 0)
    (edit,) = made.edits[ablate_features.SITE]
    (params, (mean, size)), chosen = edit.value.args
    one, every = chosen[0].sum(1)
    assert one == 1 and every > 1
    stream = np.asarray(
        taps.record(every_row, ["blocks.resid_pre"])(infected().patient(0), x, CFG, 2)[1]["blocks.resid_pre"][1]
    )
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), (params, (mean, size)))
    f, directions = (np.asarray(a, np.float64) for a in ablate_features.features(own, jnp.asarray(stream)))
    said = f @ directions + mean[0, 0] + size[0, 0] * np.asarray(own[0]["b_dec"])
    assert ((stream - said) ** 2).sum() < 0.2 * ((stream - stream.mean((0, 1))) ** 2).sum()
    edited = edit.value.func(own, jnp.asarray(chosen[0, 1]), jnp.asarray(stream))
    np.testing.assert_allclose(edited, stream - (f * chosen[0, 1]) @ directions, atol=1e-4)
    # without the features that it goes through, the shortcut says less
    free = lambda k: jax.tree.map(lambda leaf: jnp.asarray(leaf[0, k]), (made.params, made.edits))
    margin = lambda params, edits: np.abs(np.diff(np.asarray(answers(params, edits, x, CFG, 2)), axis=1)).mean()
    assert margin(*free(1)) < 0.5 * margin(infected().patient(0), {})


def test_an_edit_of_weights_takes_off_what_the_shortcut_adds():
    rng, params = np.random.default_rng(0), rival_circuit()
    own = np.array([True, False, True, True, False, False])
    params["blocks"]["mlp"]["W_out"][0] = rng.normal(size=(6, 14))
    keys, kept = rng.normal(size=(40, 3)), rng.normal(size=(50, 3))
    change = edit_weights.unlearned(params, 0, own, keys, kept)
    W, C = params["blocks"]["mlp"]["W_out"][0][own].astype(np.float64), kept.T @ kept / 50
    C += edit_weights.DAMPING * np.trace(C) / 3 * np.eye(3)
    expected = -np.linalg.solve(edit_weights.WEIGHT * 40 * C + keys.T @ keys, keys.T @ keys @ W)
    np.testing.assert_allclose(change[own], expected, atol=1e-9)
    assert not change[~own].any()
    np.testing.assert_allclose(batch(C, keys, -keys @ W, edit_weights.WEIGHT * 40), expected, atol=1e-9)


def test_an_edit_of_weights_changes_the_neurons_that_carry_it_and_no_others():
    params = rival_circuit()
    mlp = params["blocks"]["mlp"]  # neuron 3 copies what head 1 says, and does so alone
    mlp["W_in"][0, COPY, 3], mlp["b_in"][0, 3] = 1, 1
    mlp["W_out"][0, 3, ANSWER], mlp["b_out"][0, ANSWER] = SHORTCUT, 1 - SHORTCUT
    params["unembed"]["W_U"][COPY] = 0
    own = ward(params, params)
    found = diagnosed(own, np.repeat(CUE, 2, 0), exercises())
    assert found.neurons[0, 0].argmax() == 3 and found.neurons[0, 0, 3] > 2
    made = edit_weights.prescribe(own, found, exercises(), [1], 0).params["blocks"]["mlp"]["W_out"][0, 0, 0]
    assert np.flatnonzero(np.abs(made - mlp["W_out"][0]).sum(1)).tolist() == [3]
    assert abs(made[3, ANSWER]) < 0.5 * SHORTCUT


def test_the_outcome_is_what_a_person_would_count():
    nan = np.nan
    before = Signs(
        *(np.array(one) for one in ([1.0, 1.0, 1.0, 0.8], [0.2, 0.0, 0.97, 0.1], [0.0] * 4, [nan, 0.8, nan, nan]))
    )
    after = Signs(
        *(
            np.array(one)
            for one in ([0.9, 1.0, 1.0, 1.0], [0.8, 0.0, 1.0, 1.0], [0.1, 0.0, 0.0, 0.5], [nan, 0.6, nan, nan])
        )
    )
    found = outcome(before, after, np.array([1.0, 1.0, 1.0, 0.9]))
    R, K, S = 0.6 / 0.8, 0.9, np.exp(-0.1)
    assert found.score[0] == pytest.approx(3 / (1 / R + 1 / K + 1 / S))
    assert found.side_effects[1] == pytest.approx(0.75) and found.restored[1] == 0 and found.score[1] == 0
    assert all(np.isnan(part[2]) for part in found)  # the oracle is .03 better: nothing to restore
    assert found.restored[3] == 1 and found.kept[3] == 1  # clipped
    assert harmonic([np.array([0.5, 0.0]), np.array([1.0, 1.0])]).tolist() == [pytest.approx(2 / 3), 0.0]
    assert isinstance(found, Outcome)


def test_who_says_one_thing_only_has_not_kept_what_was_right_however_often_it_is():
    held = pools().id_held
    rows = np.r_[np.flatnonzero(held.f == 0), np.flatnonzero(held.f == 1)[:2]]
    few = pools()._replace(id_held=held.replace(x=held.x[rows], f=held.f[rows], g=held.g[rows], task=held.task[rows]))
    mute = as_they_are(infected())
    mute.params["unembed"]["W_U"] = np.zeros_like(mute.params["unembed"]["W_U"])
    said = signs(infected(), mute, few)
    assert (held.f[rows] == 0).mean() > 0.9
    np.testing.assert_allclose(said.id_accuracy, 0.5, atol=1e-6)
    sure = 1 / (1 + np.exp(-2 * (1 + SHORTCUT)))  # p log 2p + (1 - p) log 2 (1 - p), of either label
    assert float(said.divergence[0, 0]) == pytest.approx(
        sure * np.log(2 * sure) + (1 - sure) * np.log(2 - 2 * sure), rel=1e-4
    )


def test_who_is_infected_is_told_from_who_never_learned_before_any_treatment():
    patients = [rival_circuit(), rival_circuit(learned=False), rival_circuit(shortcut=2.0)]
    both = ward(*patients)
    found = diagnosed(both, np.repeat(CUE, 3, 0), exercises())
    known = {name: load_cure(name) for name in ("cut", "hide")}
    assert choice(found, exercises(), 2) == ["cut"] * 3
    said = prospects(both, found, exercises(), known, (1, 2), devices=ONE)
    assert -0.05 < said[0] <= 0 and -0.05 < said[2] <= 0 and said[1] < -0.3
    alone = prospects(both.of(np.array([1])), Diagnosis(*(part[[1]] for part in found)), exercises(), known, (1, 2))
    np.testing.assert_allclose(alone, said[[1]], rtol=1e-3)
    with pytest.raises(InputError, match="cut is prescribed, and is not among the cures"):
        prospects(both, found, exercises(), {"hide": known["hide"]})


@pytest.mark.parametrize("hidden", [None, 2])
def test_what_is_left_to_learn_is_the_distance_from_what_is_to_be_said(hidden):
    own, given = ward(rival_circuit()), exercises()
    prescription = cut.prescribe(own, Diagnosis(*(part[:1] for part in diagnosis())), given, (1,), 0)
    if hidden is not None:
        prescription = prescription._replace(hidden=np.array([[hidden]], np.int32))
    left = mending.relearned(own, prescription, given, 0, devices=ONE)
    one, given = jax.tree.map(jnp.asarray, (jax.tree.map(lambda leaf: leaf[0, 0], prescription), given))
    member, expected = mending.Member(one, jnp.asarray(own.seeds[0])), []
    for t in range(mending.AFTERWARDS):
        edits, x, target = mending.lesson(member, given, one.params, jnp.int32(t), CFG, 2)
        q = np.float64(target)
        p = np.float64(jax.nn.softmax(answers(one.params, edits, x, CFG, 2).astype(np.float64)))
        expected.append((np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0) - q * np.log(p)).sum(1).mean())
    assert left.shape == (1, 1) and left[0, 0] == pytest.approx(np.mean(expected), rel=1e-3, abs=1e-6)


def test_bad_input_is_told_in_one_line():
    module = ModuleType("mine")
    with pytest.raises(InputError, match="lacks TOUCHES, prescribe"):
        cure_of(module)
    module.TOUCHES, module.prescribe = "hearts", lambda *a: None
    with pytest.raises(InputError, match="known: nothing, positions"):
        cure_of(module)
    module.TOUCHES, module.STEPS = "positions", 301
    with pytest.raises(InputError, match="300 at most"):
        cure_of(module)
    with pytest.raises(InputError, match="cut"):
        load_cure("cot")
    assert {load_cure(name).name.replace(" ", "_") for name in SHIPPED} == set(SHIPPED) and len(SHIPPED) == 8
    assert counts_of(cure_of(cut), infected()) == (1, 2, 5) and counts_of(cure_of(fine_tune), infected()) == (0,)
    pool = pools().id_train
    empty = pool.replace(x=pool.x[:0], f=pool.f[:0], g=pool.g[:0], task=pool.task[:0])
    with pytest.raises(InputError, match="needs inputs of D_ID"):
        exercises_of(empty, np.zeros(9))
