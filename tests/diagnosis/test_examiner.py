"""The combined examiner on planted scores: what it trusts, what it ignores, and that it never sees the family it judges."""

import numpy as np
import pytest
import scipy.optimize

from interp_jax.diagnosis import detection
from interp_jax.diagnosis.detection import Scored
from interp_jax.diagnosis.examiner import CUT, about_middle, combined, examiners, family_of, fit, judge, middle, scaled
from interp_jax.errors import InputError

N = 20
ARM = np.array(["learned"] * N + ["cheated"] * N)
SEED = np.tile(np.arange(N), 2)
CHEATED = np.stack([ARM == "cheated", ARM == "learned"], axis=1)


def scored(score):
    return Scored(score, ARM, SEED, np.zeros(2 * N))


def planted(seed=0, families=("p", "q", "r")):
    """Three that tell, offset by the rule, one of a model alone, one of noise."""
    rng, found = np.random.default_rng(seed), {}
    for family in families:
        for k in range(3):
            score = CHEATED + rng.normal(size=(2 * N, 2)) * 0.6
            found.setdefault(f"tells {k}", {})[family] = scored(score * 10**k + [0, 50.0])
        own = (ARM == "cheated") + rng.normal(size=2 * N) * 0.1
        found.setdefault("ignores", {})[family] = scored(np.stack([own, own], axis=1))
        found.setdefault("noise", {})[family] = scored(rng.normal(size=(2 * N, 2)))
    return found


def test_the_middle_is_between_the_two_groups_however_many_are_in_each():
    values = np.concatenate([np.full(3, 1.0), np.full(9, 5.0)])
    assert middle(values) == 3.0 and middle(np.full(4, 2.0)) == 2.0 and middle(np.array([7.0])) == 7.0
    values = np.random.default_rng(0).normal(size=30)
    within = {}
    for cut in np.sort(values)[1:]:
        low, high = values[values < cut], values[values >= cut]
        within[(low.mean() + high.mean()) / 2] = low.var() * len(low) + high.var() * len(high)
    assert middle(values) == pytest.approx(min(within, key=within.get))
    score = np.stack([values, 3 * values + 7], axis=1)
    np.testing.assert_allclose(about_middle(score)[:, 1], 3 * about_middle(score)[:, 0])


def test_it_beats_each_that_it_is_made_of_and_ignores_what_ignores_the_rule():
    found = planted()
    names = list(found)
    judged = combined(found, examiners(found, names))
    macro = lambda one: detection.macro(list(one.values()))
    assert macro(judged) > max(macro(found[name]) for name in names) + 0.02 and macro(judged) > 0.95
    assert all(detection.mirrored(one) == 0.5 for one in found["ignores"].values())
    fitted = examiners(found, names, penalty=0.01)["r"]
    assert fitted.diagnosers == ("tells 0", "tells 1", "tells 2", "noise")
    assert (fitted.weights >= 0).all() and fitted.weights[:3].min() > 2 * fitted.weights[3]


def test_scales_are_those_of_other_families_so_what_is_close_together_says_little():
    found = planted()
    names = list(found)
    examiner = fit([family_of(found, family, names) for family in ("p", "q")], names)
    ratio = examiner.sizes[1:3] / examiner.sizes[:2]
    np.testing.assert_allclose(ratio, 10, rtol=0.3)
    close = {**found, "tells 2": {**found["tells 2"], "r": scored(found["tells 2"]["r"].score / 1000)}}
    said = scaled(family_of(close, "r", names), examiner.sizes)
    assert np.abs(said[..., 2]).max() < 0.01 and np.abs(said[..., 1]).max() <= CUT


def test_f_told_otherwise_is_judged_as_f_is():
    """On the scale of f as it was told: the same scores give the same judgement, whoever else they were given of."""
    found = planted()
    names = list(found)
    assert combined(found, examiners(found, names))["r"].again is None
    told = {
        name: {
            family: one._replace(again=np.where(ARM == "learned", one.score[:, 0], np.nan))
            for family, one in own.items()
        }
        for name, own in found.items()
    }
    judged = combined(told, examiners(told, names))["r"]
    np.testing.assert_allclose(judged.again[ARM == "learned"], judged.score[ARM == "learned", 0])
    assert np.isnan(judged.again[ARM == "cheated"]).all()


def test_weights_are_the_minimum():
    found = planted(1)
    families = [family_of(found, family, list(found)) for family in ("p", "q")]
    sizes = np.sqrt(np.mean([np.square(one.about).mean((0, 1)) for one in families], axis=0))

    def loss(w):
        each = []
        for one in families:
            s = np.clip(one.about / sizes, -3, 3)
            each.append(np.log1p(np.exp(-np.where(one.cheated, 1, -1) * (s @ w))).mean())
        return np.log(np.mean(np.exp(10 * np.array(each)))) / 10 + 0.05 * w.sum()

    got = fit(families, list(found)).weights
    best = scipy.optimize.minimize(loss, np.ones(5), method="Powell", bounds=[(0, 10)] * 5, tol=1e-10)
    assert loss(got) == pytest.approx(best.fun, abs=1e-5)
    np.testing.assert_allclose(got, best.x, atol=0.03)


def test_who_says_something_else_where_f_is_told_otherwise_takes_no_part():
    """However well it tells: it calls those that learned by another telling of f cheats."""
    found = planted(2)
    told = lambda name, one: np.where(ARM == "learned", one.score[:, 0] + 30.0 * (name == "tells 1"), np.nan)
    found = {name: {k: one._replace(again=told(name, one)) for k, one in own.items()} for name, own in found.items()}
    assert examiners(found, list(found))["r"].diagnosers == ("tells 0", "tells 2", "noise")
    with pytest.raises(InputError, match="says the same however it is told"):
        examiners(found, ["tells 1"])


def test_the_family_that_is_judged_worst_counts_most():
    """One diagnoser is right without error in two families and at chance in a third, another nearly right in all of them."""
    rng, found = np.random.default_rng(3), {}
    for family in ("p", "q", "r", "s"):
        sure = CHEATED if family in ("p", "q") else np.zeros(CHEATED.shape)
        found.setdefault("sure", {})[family] = scored(3.0 * sure + rng.normal(size=CHEATED.shape))
        found.setdefault("fair", {})[family] = scored(2.0 * CHEATED + rng.normal(size=CHEATED.shape))
    fitted = examiners(found, list(found))["s"]
    own = dict(zip(fitted.diagnosers, fitted.weights, strict=True))
    assert own["fair"] > own["sure"]


def changed(found, **fields):
    """With other fields in family r."""
    return {
        name: {family: one._replace(**fields) if family == "r" else one for family, one in own.items()}
        for name, own in found.items()
    }


def test_the_family_that_is_judged_takes_no_part_in_its_weights_and_its_labels_are_not_looked_at():
    found = planted()
    names = [name for name in found if name != "ignores"]
    judged = lambda found: combined(found, examiners(found, names))["r"]
    one = judged(found)
    by_hand = fit([family_of(found, family, names) for family in ("p", "q")], names)
    np.testing.assert_array_equal(one.score, judge(by_hand, family_of(found, "r", names)))
    np.testing.assert_array_equal(one.score, judged(changed(found, arm=np.full(2 * N, "mixed"))).score)
    wavering = {
        "tells 0": changed(found, again=np.full(2 * N, 99.0))["tells 0"]
    }  # in r alone, which decides for p and q
    np.testing.assert_array_equal(one.score, judged({**found, **wavering}).score)
    takes_part = {family: own.diagnosers for family, own in examiners({**found, **wavering}, names).items()}
    assert "tells 0" in takes_part["r"] and "tells 0" not in takes_part["p"] + takes_part["q"]
    other_rule = {
        name: {
            family: own._replace(score=np.stack([own.score[:, 0], own.score[::-1, 1]], 1)) if family == "r" else own
            for family, own in each.items()
        }
        for name, each in found.items()
    }
    np.testing.assert_array_equal(one.score[:, 0], judged(other_rule).score[:, 0])


def test_families_of_the_same_rules_are_no_others():
    found = planted()
    names = ["tells 0", "tells 1", "noise"]
    kin = {"p": "p", "q": "p", "r": "r"}
    fitted = examiners(found, names, kin)
    alone = fit([family_of(found, "r", names)], names)
    np.testing.assert_array_equal(fitted["p"].weights, alone.weights)
    np.testing.assert_array_equal(fitted["q"].weights, alone.weights)
    assert (fitted["r"].weights != alone.weights).any()
    assert examiners(planted(families=("p",)), ["tells 0"]) == {} == examiners(found, names, dict.fromkeys(kin, "p"))


def test_a_diagnoser_that_has_not_judged_all_families_takes_no_part():
    found = planted()
    found["noise"] = {}
    fitted = examiners(found, list(found))
    assert fitted.keys() == {"p", "q", "r"} and all("noise" not in one.diagnosers for one in fitted.values())
    with pytest.raises(InputError, match="heeds the declared rule"):
        examiners(found, ["ignores"])
    with pytest.raises(InputError, match="has judged all"):
        examiners({"x": {"p": found["tells 0"]["p"]}, "y": {"q": found["tells 0"]["q"]}}, ["x", "y"])
    with pytest.raises(InputError, match="there are none"):
        fit([], ["x"])
