"""Planted dictionaries: what is found is the truth, judges fail where it is not, and the report has every measure."""

import functools

import jax
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.errors import InputError
from interp_jax.experiments import measures
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_answers.calibration import judge
from interp_jax.experiments.measures import calibration
from interp_jax.experiments.measures.planted import ON_HOST, PURE, key_of
from interp_jax.results.blocks import TableBlock
from interp_jax.train.population import population
from interp_jax.train.run import Span


@functools.cache
def run_group(measure, n=2):
    members = [measures.Config(seed=i, measure=measure) for i in range(n)]
    made, config = measures.experiment(members[0]), parts.stack(members)

    def whole(hypers, shared):
        state, _ = made.run.advance(made.run.init(hypers.seed, hypers), hypers, Span(0, 1), shared)
        return state, made.observe(state, hypers, shared)

    states, seen = jax.device_get(population(whole, n, jax.devices()[:1])(config, ()))
    if made.analyse:
        each = [made.analyse(jax.tree.map(lambda x, i=i: x[i], states), members[i], ()) for i in range(n)]
        seen |= {name: np.stack([one[name] for one in each]) for name in each[0]}
    return GroupResult(config, tuple("ab"), np.full(n, -1), {1: seen}, {}, np.zeros(0), (), np.zeros(n))


@pytest.mark.parametrize("measure", ["interchange", "stability", "descriptions"])
def test_what_is_planted_is_found_and_a_wrong_figure_is_caught(measure):
    group, bar = run_group(measure), calibration.ROWS[measure][1]
    verdict = judge(bar, [group])
    assert verdict.passed and verdict.seeds == 2
    seen = group.observations[1]
    for i in range(seen["found"].shape[1]):
        wrong = seen["found"].copy()
        wrong[1, i] += 1.5 * bar + verdict.value if wrong[1, i] >= seen["truth"][1, i] else -1.5 * bar
        assert not judge(bar, [group._replace(observations={1: {**seen, "found": wrong}})]).passed


def test_seeds_plant_other_dictionaries():
    first, second = (ON_HOST["stability"](key_of(seed, "stability")) for seed in (0, 1))
    assert not np.array_equal(first.found, second.found) and np.array_equal(first.truth, second.truth)


def test_every_measure_has_a_row_of_the_certificate_and_of_the_report():
    assert set(calibration.ROWS) == set(PURE) | set(ON_HOST)
    made = [config for one in calibration.instruments() for config in one.configs(True)]
    assert len(made) == 2 * len(calibration.ROWS)
    page = measures.report([run_group("stability"), run_group("descriptions")])
    (table,) = [block.table for block in page.blocks if isinstance(block, TableBlock)]
    assert [row[0] for row in table.rows] == ["stability", "descriptions"]


def test_an_unknown_measure_is_refused():
    with pytest.raises(InputError, match="did you mean 'stability'"):
        measures.Config(measure="stabilty").check()
