"""Planted directions: methods find what they should, judges fail where they do not, and the report has every question."""

import numpy as np
import pytest

from interp_jax import parts
from interp_jax.errors import InputError
from interp_jax.experiments import known_directions
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_directions import calibration
from interp_jax.experiments.known_directions.planted import QUESTIONS


def run_group(question, n=2):
    members = [known_directions.Config(seed=i, question=question) for i in range(n)]
    made = known_directions.experiment(members[0])
    each = [made.analyse(made.run.init(i, member), member, ()) for i, member in enumerate(members)]
    seen = {name: np.stack([one[name] for one in each]) for name in each[0]}
    config = parts.stack(members)
    return GroupResult(config, tuple("ab"), np.full(n, -1), {1: seen}, {}, np.zeros(0), (), np.zeros(n))


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_planted_is_found_and_a_wrong_figure_is_caught(question):
    group, bar = run_group(question), calibration.ROWS[question][1]
    verdict = calibration.judge(bar, [group])
    assert verdict.passed and verdict.seeds == 2, verdict
    seen = group.observations[1]
    for i in range(0, seen["found"].shape[1], 7):
        wrong = seen["found"].copy()
        wrong[1, i] = seen["truth"][1, i] + 1.5 * bar
        assert not calibration.judge(bar, [group._replace(observations={1: {**seen, "found": wrong}})]).passed


def test_every_question_has_a_row_of_the_certificate_and_of_the_report():
    assert set(calibration.ROWS) == set(QUESTIONS)
    made = [config for one in calibration.instruments() for config in one.configs(True)]
    assert len(made) == 2 * len(calibration.ROWS)
    page = known_directions.report([run_group("weight edits")])
    assert "1 questions" in page.summary


def test_an_unknown_question_is_refused():
    with pytest.raises(InputError, match="did you mean 'gates'"):
        known_directions.Config(question="gate").check()
