"""Detection and localisation: against counting by hand, scikit-learn and closed forms."""

import itertools

import numpy as np
import pytest
import scipy.stats

from interp_jax.diagnosis import detection, thresholds
from interp_jax.diagnosis.detection import Scored, auroc
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.localisation import average_precision, chance, cue_positions, ndcg
from interp_jax.errors import InputError

RNG = np.random.default_rng(0)


def counted(cheats, others):
    return np.mean([(a > b) + 0.5 * (a == b) for a, b in itertools.product(cheats, others)])


def scored(score, n=6, **more):
    """n pairs, learned first; scores [2n 2]."""
    arm = np.array(["learned"] * n + ["cheated"] * n)
    return Scored(score, arm, np.tile(np.arange(n), 2), np.zeros(2 * n))


def test_auroc_counts_pairs():
    for _ in range(20):
        cheats, others = RNG.integers(0, 5, 7).astype(float), RNG.integers(0, 5, 9).astype(float)
        assert auroc(cheats, others) == pytest.approx(counted(cheats, others), abs=1e-12)
    assert np.isnan(auroc(cheats, others[:0]))


def test_a_score_that_ignores_the_declared_rule_is_at_one_half_exactly():
    for _ in range(20):
        blind = np.repeat(RNG.normal(size=(12, 1)), 2, axis=1)
        assert detection.mirrored(scored(blind)) == 0.5
        assert detection.paired_accuracy(scored(blind)) == 0.5
    tell = np.repeat(np.r_[np.zeros(6), np.ones(6)][:, None], 2, axis=1)
    assert detection.natural(scored(tell)) == 1.0 and detection.mirrored(scored(tell)) == 0.5


def test_a_score_that_tells_is_at_one_mirrored_too():
    score = np.r_[np.tile([0.0, 1.0], (6, 1)), np.tile([1.0, 0.0], (6, 1))]
    one = scored(score)
    assert detection.mirrored(one) == detection.natural(one) == detection.paired_accuracy(one) == 1.0
    assert thresholds.true_positives(one) == 1.0
    assert detection.mirrored(scored(-score)) == 0.0


def test_a_calliper_matches_what_is_near_one_to_one():
    arm = np.array(["learned"] * 3 + ["cheated"] * 3)
    assert detection.calliper(np.array([0.0, 1.0, 5.0, 0.05, 1.1, 9.0]), arm).tolist() == [0, 1, 3, 4]
    assert detection.calliper(np.array([0.0, 0.01, 5.0, 0.0, 20.0, 9.0]), arm).tolist() == [0, 3]
    assert len(detection.calliper(np.array([0.0, 0, 0, 9, 9, 9]), arm)) == 0


def test_cheats_are_counted_above_the_limit():
    one = scored(RNG.normal(size=(40, 2)), 20)
    cheats, rest = detection.entries(one)
    best = max((cheats > cut).mean() for cut in rest if (1 + (rest > cut).sum()) / 41 <= 0.05)
    assert len(rest) == 40 and thresholds.true_positives(one) == best


def test_a_new_one_is_above_the_limit_with_at_most_that_probability():
    assert thresholds.limit(np.arange(24.0)) == 23 and thresholds.limit(np.arange(39.0)) == 37
    assert thresholds.limit(np.arange(5.0)) == 4
    for n in (19, 24, 45):
        draws = RNG.normal(size=(20_000, n + 1))
        above = np.mean([one[0] > thresholds.limit(one[1:]) for one in draws])
        assert above == pytest.approx(int(0.05 * (n + 1)) / (n + 1), abs=0.005)


def test_controls_and_grades():
    score = np.r_[
        np.tile([0.0, 1.0], (6, 1)), np.tile([1.0, 0.0], (6, 1)), [[2, 0], [0, 0]], np.c_[[1, 2, 3, 5], np.zeros(4)]
    ]
    arm = np.array(["learned"] * 6 + ["cheated"] * 6 + ["nuisance"] * 2 + ["mixed"] * 4)
    one = Scored(score, arm, np.arange(18), np.r_[np.zeros(14), -1, 0, 0.1, 0.9])
    assert detection.mirrored(one) == 1.0  # other arms do not enter
    assert thresholds.above(one, "nuisance").tolist() == [True, False] and detection.graded(one) == 1.0
    assert detection.macro([one, scored(score[:12])], detection.graded) == 1.0
    assert np.isnan(detection.macro([scored(score[:12])], detection.graded))
    assert thresholds.above(scored(score[:12]), "nuisance").size == 0 and np.isnan(
        detection.graded(scored(score[:12]))
    )
    grown = one._replace(arm=np.where(arm == "mixed", "natural", arm))
    assert (
        thresholds.emerged(grown).tolist() == [True] and thresholds.emerged(one).size == 0
    )  # one relies on g, and has 5


def test_shares_are_counted_with_exact_intervals():
    some = thresholds.share([True] * 3 + [False] * 9)
    low, high = scipy.stats.beta.ppf(0.025, 3, 10), scipy.stats.beta.ppf(0.975, 4, 9)
    assert some[:2] == (3, 12) and some.value == 0.25 and some[2:] == pytest.approx((low, high), rel=1e-6)
    assert str(some) == "3 of 12 (0.05\u00a0…\u00a00.57)" and str(thresholds.share([])) == "–"
    assert np.isnan(thresholds.share([]).value) and thresholds.share([False] * 32).high == pytest.approx(
        0.109, abs=1e-3
    )


def test_how_far_one_is_ahead_of_another_is_told_on_the_same_draws():
    score = RNG.normal(size=(40, 2)) + np.r_[np.tile([0.0, 0.8], (20, 1)), np.tile([0.8, 0.0], (20, 1))]
    one, better = (
        scored(score, 20),
        scored(score + 0.5 * np.r_[np.tile([0.0, 1], (20, 1)), np.tile([1.0, 0], (20, 1))], 20),
    )
    got = detection.bootstrap([detection.Both(better, one)], detection.ahead, draws=200)
    assert got.value == detection.mirrored(better) - detection.mirrored(one) and 0 < got.low < got.value < got.high
    assert detection.bootstrap([detection.Both(one, one)], detection.ahead, draws=20) == (0, 0, 0)


def test_who_learned_f_is_misled_about_where_f_told_otherwise_is_above_the_limit():
    score = np.r_[np.tile([0.0, 1.0], (20, 1)), np.tile([1.0, 0.0], (20, 1))]
    one = scored(score, 20)
    assert thresholds.misled(one).size == 0
    again = np.where(one.arm == "learned", 0.0, np.nan)
    again[:3] = 0.1  # the limit is 0
    assert thresholds.misled(one._replace(again=again)).mean() == 3 / 20
    assert thresholds.misled(one._replace(again=again).of(np.r_[0:2, 20:30])).mean() == 1.0


def test_a_model_is_no_measure_of_itself_where_f_is_told_otherwise():
    score = np.r_[np.c_[np.arange(12.0), np.ones(12)], np.c_[np.ones(12), np.full(12, -1.0)]]
    one = scored(score, 12)
    same = np.where(one.arm == "learned", score[:, 0], np.nan)
    assert thresholds.misled(one._replace(again=same)).mean() == 1 / 12  # the highest, above all others' entries
    assert thresholds.misled(one._replace(again=same + 1e-6)).mean() == 1 / 12
    assert thresholds.misled(one._replace(again=same - 1e-6)).mean() == 1 / 12


def test_thresholds_of_other_families_are_judged_where_they_were_not_chosen():
    tell = np.r_[np.tile([0.0, 1.0], (6, 1)), np.tile([1.0, 0.0], (6, 1))]
    same = thresholds.transferred({"a": scored(tell), "b": scored(tell * 1.5)})
    assert same == {"a": 1.0, "b": 1.0}
    assert thresholds.transferred({"a": scored(tell), "b": scored(tell + 10)})["b"] == 0.5
    assert thresholds.transferred({"a": scored(tell)}) == {}


def test_the_bootstrap_keeps_seeds_together_and_covers():
    score = RNG.normal(size=(40, 2)) + np.r_[np.tile([0.0, 0.8], (20, 1)), np.tile([0.8, 0.0], (20, 1))]
    one = scored(score, 20)
    got = detection.bootstrap([one], draws=400)
    assert got.low < got.value < got.high and 0.02 < got.high - got.low < 0.4
    blind = scored(np.repeat(RNG.normal(size=(12, 1)), 2, axis=1))
    assert detection.bootstrap([blind, blind], draws=50) == (0.5, 0.5, 0.5)  # mirror copies stay together
    with pytest.raises(InputError, match="no family"):
        detection.bootstrap([])


def test_intervals_of_few_families_hold_what_they_say():
    assert detection.outside(10**6) == pytest.approx(0.025, abs=1e-6) and detection.outside(1) == 0
    assert detection.outside(6) == pytest.approx(scipy.stats.norm.cdf(-np.sqrt(6 / 5) * 2.5706), rel=1e-3)
    mean = lambda families: float(np.mean([one.score.mean() for one in families]))
    arm, seed, held, rng = np.array(["learned"] * 4), np.arange(4), 0, np.random.default_rng(1)
    for i in range(300):
        families = [Scored(rng.normal(rng.normal(), 0.5, (4, 2)), arm, seed, np.zeros(4)) for _ in range(6)]
        got = detection.bootstrap(families, mean, draws=150, seed=i)
        held += got.low <= 0 <= got.high
    assert scipy.stats.binomtest(held, 300, 0.95).pvalue > 0.001


def test_the_error_of_auroc_is_that_of_its_variance():
    """Hanley & McNeil 1982 for independent scores: seeds are drawn, both copies of each with it."""
    score = np.random.default_rng(1).normal(size=(96, 2))
    one = scored(score, 48)
    got = detection.bootstrap([one], draws=400, redraw_families=False)
    a, n = got.value, 96
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    expected = np.sqrt((a * (1 - a) + (n - 1) * (q1 + q2 - 2 * a * a)) / n**2)
    assert (got.high - got.low) / 3.92 == pytest.approx(expected, rel=0.3)


def test_ranking_measures_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    for _ in range(20):
        score, true, gain = RNG.integers(0, 4, 9).astype(float), RNG.random(9) < 0.4, RNG.random(9)
        true[:2] = True, False
        assert average_precision(score, true) == pytest.approx(metrics.average_precision_score(true, score))
        assert ndcg(score, gain) == pytest.approx(metrics.ndcg_score([gain], [score]))
        assert auroc(score[true], score[~true]) == pytest.approx(metrics.roc_auc_score(true, score))


def test_ranking_measures_in_closed_form():
    assert average_precision(np.arange(5.0), np.arange(5) == 4) == 1
    assert average_precision(-np.arange(5.0), np.arange(5) == 4) == 1 / 5
    assert chance(average_precision, 4, np.arange(4) == 0) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=0.03)
    assert ndcg(np.array([2.0, 1.0]), np.array([0.0, 1.0])) == pytest.approx(1 / np.log2(3))
    assert np.isnan(ndcg(np.zeros(2), np.zeros(2)))
    with pytest.raises(InputError, match="no position"):
        average_precision(np.zeros(3), np.zeros(3, bool))
    assert cue_positions(load_family("parity"), "g").nonzero()[0].tolist() == [7]
    assert not cue_positions(load_family("brackets"), "g").any()
