"""The calibrations of searches for subspaces hold their bars, and their judges fail where a search is wrong."""

import functools

import numpy as np
import pytest

from interp_jax import parts
from interp_jax.experiments.alignment import calibration, runs
from interp_jax.experiments.alignment.config import Config
from interp_jax.experiments.config import build_experiment
from interp_jax.experiments.experiment import GroupResult
from interp_jax.models.relay_circuit import HELD, kind_of_place, mixed_share

ROWS = {one.name: one for one in calibration.instruments()}
PLACES = [(0, 2), (0, 3), (1, 3)]  # of a relay of two layers: held, ahead, held


@functools.cache
def analysed(member):
    return runs.analysis(member, int(member.seed))


def group_of(members, each):
    """The group of members with what was seen of each."""
    n = len(members)
    seen = {name: np.stack([one[name] for one in each]) for name in each[0]}
    hashes = tuple(map(str, range(n)))
    return GroupResult(
        parts.stack(members), hashes, np.full(n, -1), {1: seen}, {}, np.zeros(0), ("",) * n, np.zeros(n)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_holds_its_bar(name):
    members = [build_experiment(config) for config in ROWS[name].configs(False)]
    verdict = ROWS[name].judge([group_of(members, [analysed(member) for member in members])])
    assert verdict.passed, verdict
    assert verdict.low <= verdict.value <= verdict.high and verdict.seeds == len(members)


def made_up(found=1.0, share=0.999, extra=0, chance=0.0, shuffled=0.0, steered=0.0, random=0.0, n=18):
    """A population of relays as if searches had this accuracy and share of the plane where the variable is held, `extra`
    dimensions too many, and accuracies that are chance and so much more; random subspaces hold so much more than k / D.
    """
    rng, members, each = np.random.default_rng(0), [], []
    held = np.array([[kind_of_place(*place) == HELD] for place in PLACES])
    for i in range(n):
        config = Config(everywhere=False, searches=1, layers=2, dimensions=1 + i % 3, seed=i)
        d = config.dimensions

        def at_chance(more, d=d):
            return rng.binomial(256, min(1 / (d + 1) + more, 1), size=(3, 1)) / 256

        seen = {"learned": np.where(held, found, at_chance(chance)), "shuffled": at_chance(shuffled)}
        seen |= {"random_model": at_chance(steered), "dimensions": np.full((3, 1), d + extra)}
        seen |= {"shared": np.full((3, 1), share * d)}
        seen |= {"shared_random": d * (d / 24 + random + 0.03 * rng.normal(size=(3, 1)))}
        seen |= {"layer": np.array([0, 0, 1]), "position": np.array([2, 3, 3])}
        members.append(config)
        each.append(seen)
    return group_of(members, each)


WRONG = {
    "orthonormal, accuracy": {"found": 0.98},
    "orthonormal, subspace": {"share": 0.97},
    "orthonormal, false alarms": {"chance": 0.05},
    "boundless, dimensions": {"extra": 1},
    "shuffled labels": {"shuffled": 0.05},
    "random-weights models": {"steered": 0.15},
    "random subspaces": {"random": 0.04},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_judge_fails_of_what_it_is_there_for_and_of_nothing_else(name):
    judge = ROWS[f"alignment search: {name}"].judge
    assert judge([made_up()]).passed
    for other, wrong in WRONG.items():
        assert judge([made_up(**wrong)]).passed == (other != name)


def test_false_alarms_are_tested_of_each_dimension_and_of_one_place_a_run():
    """54 hits too many in one run of 18 would be lost among all, and not among the six of its dimension."""
    group = made_up()
    seen = {name: values.copy() for name, values in group.observations[1].items()}
    seen["learned"][2, 1] += 0.4
    judge = ROWS["alignment search: orthonormal, false alarms"].judge
    assert not judge([group._replace(observations={1: seen})]).passed


def test_the_share_beside_a_copy_is_held_to_its_closed_form():
    judge = ROWS["alignment search: a copy that nothing reads"].judge
    for off, passed in ((0.0, True), (0.02, True), (0.05, False), (-0.05, False)):
        members = [Config(bystander=b, layers=1, everywhere=False, searches=1) for b in (0.5, 2.0)]
        each = [
            {
                "shared": np.array([[2 * (mixed_share(m.bystander) + off)]]),
                "layer": np.array([0]),
                "position": np.array([2]),
            }
            for m in members
        ]
        assert judge([group_of(members, each)]).passed == passed
