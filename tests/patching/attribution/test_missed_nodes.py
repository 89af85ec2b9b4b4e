"""The bound on missed nodes, where every node's effect is known."""

import numpy as np
import pytest
from scipy import stats

from interp_jax.errors import InputError
from interp_jax.patching.attribution.missed_nodes import draw_sets, missed_nodes


def additive(effects):
    return lambda sets: np.tensordot(sets, effects, np.ndim(effects))


def test_one_missed_node_among_idle_ones_is_found_exactly():
    truth = np.zeros((4, 5))
    truth[2, 3] = -1.5
    found = missed_nodes(np.zeros((4, 5)), additive(truth), n_checked=0)
    assert found.nodes[found.bounds.argmax()] == 13
    np.testing.assert_allclose([found.bound, found.effects[13], found.errors[13]], [1.5, -1.5, 0.0], atol=1e-12)


def test_checked_nodes_are_left_out():
    """However large: they are in no set."""
    truth = np.array([100.0, 0.0, 0.0, -50.0, 0.0, 0.25])
    estimate = np.array([-9.0, 0.0, 0.1, 8.0, 0.0, 0.0])
    asked = []

    def exact(sets):
        asked.append(sets)
        return additive(truth)(sets)

    found = missed_nodes(estimate, exact, n_checked=2, n_sets=100, share=0.2)
    assert not asked[0][:, [0, 3]].any() and asked[0][:, [1, 2, 4, 5]].sum(0).tolist() == [20] * 4
    np.testing.assert_array_equal(found.nodes, [2, 1, 4, 5])
    assert 0.25 <= found.bound < 0.35


def test_the_bound_holds_as_often_as_it_says():
    """Additive effects and 200 seeds, at several confidences; each alone holds at least so often too."""
    rng = np.random.default_rng(0)
    truth = 0.1 * rng.normal(size=30)
    truth[17] = 0.5
    for confidence in (0.8, 0.95):
        found = [
            missed_nodes(np.zeros(30), additive(truth), 0, n_sets=100, share=0.2, confidence=confidence, seed=seed)
            for seed in range(200)
        ]
        held = sum(f.bound >= 0.5 for f in found)
        assert stats.binomtest(held, 200, confidence, alternative="less").pvalue > 1e-3
        alone = sum(f.bounds[np.flatnonzero(f.nodes == 17)[0]] >= 0.5 for f in found)
        assert (
            stats.binomtest(alone, 200, confidence).pvalue > 1e-3
        )  # and no more than that: it is no looser than it says
    assert np.median([f.bound for f in found]) < 0.75


def test_bounds_narrow_with_more_sets():
    truth = 0.1 * np.random.default_rng(0).normal(size=50)
    few, many = (missed_nodes(np.zeros(50), additive(truth), 0, n_sets=n).bound for n in (100, 1600))
    largest = np.abs(truth).max()
    assert largest < many < largest + 0.35 * (few - largest)  # errors fall as the root, to a quarter


def test_sets_are_drawn_for_each_node_by_itself():
    sets = draw_sets(2000, 40, 8, seed=3)
    assert (sets.sum(0) == 8).all()
    together = (sets[:, :1000] & sets[:, 1000:]).sum(0)  # hypergeometric: 8 of 40, twice
    np.testing.assert_allclose(together.mean(), 8 * 8 / 40, atol=0.12)
    assert not np.array_equal(sets, draw_sets(2000, 40, 8, seed=4))


def test_nodes_that_overwrite_each_other_are_allowed_for():
    """A chain of three, each of which passes on all that it hears: any of them patched is all of them patched."""

    def exact(sets):
        return sets[:, [3, 9, 14]].any(1) + additive(0.02 * np.random.default_rng(1).normal(size=20))(sets)

    bounds = {
        d: [missed_nodes(np.zeros(20), exact, 0, 400, seed=s, depth=d).bound for s in range(200)] for d in (0, 2)
    }
    held = {depth: sum(bound >= 1 for bound in found) for depth, found in bounds.items()}
    assert stats.binomtest(held[2], 200, 0.95, alternative="less").pvalue > 1e-3
    assert held[0] < 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_checked": 6}, "none of 6"),
        ({"n_checked": 0, "n_sets": 20}, "at least 5"),
        ({"n_checked": 0, "confidence": 0.4}, "between 0.5 and 1"),
        ({"n_checked": 0, "depth": -1}, "depth = -1"),
        ({"n_checked": 0, "exact": lambda sets: np.zeros((len(sets), 2))}, "shape (256, 2)"),
        ({"n_checked": 0, "exact": lambda sets: np.full(len(sets), np.nan)}, "finite"),
    ],
)
def test_bad_input_is_named(options, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(").replace(")", r"\)")):
        missed_nodes(**{"estimate": np.zeros(6), "exact": additive(np.ones(6))} | options)
