"""Questions whose answers are known: what is planted is found, and a judge sees a wrong figure."""

import numpy as np
import pytest

from interp_jax import parts
from interp_jax.errors import InputError
from interp_jax.experiments import known_answers
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_answers import calibration, erasure
from interp_jax.experiments.known_answers.runs import QUESTIONS

LONG = {
    "orthogonal",
    "null-space projection",
    "projection",
    "scrubbing",
    "moments",
    "intervals",
}  # the certificate has them
ASKED = [name for name in QUESTIONS if name.removeprefix("erasure: ") not in LONG]


def answered(question, n=2):
    """A group of n seeds."""
    members = [known_answers.Config(seed=i, question=question) for i in range(n)]
    made = known_answers.experiment(members[0])
    each = [made.analyse(made.run.init(i, member), member, ()) for i, member in enumerate(members)]
    seen = {name: np.stack([one[name] for one in each]) for name in each[0]}
    return GroupResult(parts.stack(members), tuple("ab"), np.full(n, -1), {1: seen}, {}, np.zeros(0), (), np.zeros(n))


@pytest.mark.parametrize("question", ASKED)
def test_what_is_planted_is_found_and_a_wrong_figure_is_caught(question):
    group, bar = answered(question), QUESTIONS[question].bar
    verdict = calibration.judge(bar, [group])
    assert verdict.passed and verdict.seeds == 2, verdict
    seen = group.observations[1]
    n = seen["found"].shape[1]
    for i in range(0, n, max(1, n // 12)):
        wrong = seen["found"].copy()
        wrong[1, i] = seen["truth"][1, i] + 1.5 * bar
        assert not calibration.judge(bar, [group._replace(observations={1: {**seen, "found": wrong}})]).passed


def test_seeds_plant_other_concepts():
    first, second = (erasure.QUESTIONS["projection"].ask(seed) for seed in (0, 1))
    assert not np.array_equal(first.found, second.found) and abs(first.truth[1] - second.truth[1]) > 1e-3
    assert 0.6 < first.truth[1] < first.truth[0], "a probe's own direction leaves much where activations are not white"


def test_every_question_has_a_row_of_the_certificate_and_of_the_report():
    rows = calibration.instruments()
    assert [one.name for one in rows] == list(QUESTIONS) and all(len(one.configs(True)) == 2 for one in rows)
    assert {len(one.configs(False)) for one in rows} == {3, 10}
    page = known_answers.report([answered("steering: weight edits"), answered("erasure: least change")])
    assert "2 questions" in page.summary


def test_an_unknown_question_is_refused():
    with pytest.raises(InputError, match="did you mean 'steering: gates'"):
        known_answers.Config(question="steering: gate").check()
