"""Pairs along their training: when a diagnosis is right, and stays so."""

import jax
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.diagnosis.diagnosers_io import load_diagnoser
from interp_jax.experiments.exam import courses as file
from interp_jax.experiments.exam import runs
from interp_jax.experiments.exam.cohort import along
from interp_jax.experiments.exam.courses import NEVER, course_blocks, course_figures, courses, since, told
from interp_jax.experiments.experiment import GroupResult
from interp_jax.train.population import population
from interp_jax.train.run import Span


def test_since_is_the_first_step_of_those_to_the_end():
    holds = np.array([[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 1, 1]], bool)
    np.testing.assert_array_equal(since(holds, np.array([10, 20, 40])), [40, NEVER, 20, 10])
    assert told([40, NEVER, 20]) == "30 (2 of 3)" and told([NEVER]) == "never (0 of 1)"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two pairs of sums at four steps, as the engine leaves them."""
    student = runs.Student(d_model=8, n_heads=2, d_mlp=8, batch_size=16)
    members = [
        runs.Config(seed=seed, steps=40, checkpoints=4, family="leak", student=student, arm=runs.Arm(learned=learned))
        for seed in range(2)
        for learned in (1.0, 0.0)
    ]
    built, config = runs.experiment(members[0]), parts.stack(members)

    def whole(hypers, span):
        state, _ = built.run.advance(built.run.init(hypers.seed, hypers), hypers, span, built.shared)
        return built.observe(state, hypers, built.shared)

    program = population(whole, 1, jax.devices()[:1])
    seen = {step: jax.device_get(program(config, Span(0, step))) for step in built.observe_at}
    directory = tmp_path_factory.mktemp("exam")
    group = GroupResult(
        config, tuple("0123"), np.full(4, -1), seen, {}, np.zeros(0), (str(directory),) * 4, np.zeros(4)
    )
    return along([group]), directory


def test_what_ignores_the_rule_is_right_of_half_and_of_no_pair(kept):
    found = courses(kept[0], [load_diagnoser("loss"), load_diagnoser("attention")], kept[1])
    course = found["loss"]["leak"]
    assert course.steps.tolist() == [10, 16, 25, 40] and (course.right == 0.5).all()
    assert (course.planted == NEVER).all()  # nothing is learned in 40 steps
    figures = course_figures(found)
    assert figures["loss"]["leak"]["from"] == [NEVER, NEVER] and figures["attention"]["leak"]["steps"][-1] == 40
    table = course_blocks(figures)[-1].table
    assert table.columns == ("diagnoser", "leak") and len(table.rows) == 3 and table.rows[0][1] == "never (0 of 2)"
    assert course_blocks({}) == []


def test_scores_of_every_step_go_to_their_pairs(kept, monkeypatch, tmp_path):
    """Rows are learned, cheated of seed 0, then of seed 1; the first pair is told apart from step 16 on, the second never."""
    score = np.zeros((4, 4, 2))
    score[1:, 1, 0], score[1:, 0, 1] = 1, 1
    score[:3, 3, 0] = 1
    monkeypatch.setattr(file, "examine", lambda diagnoser, examinees: score.reshape(16, 2))
    course = courses(kept[0], [load_diagnoser("loss")], tmp_path)["loss"]["leak"]
    np.testing.assert_array_equal(course.right, [[0.5, 0.75], [1, 0.75], [1, 0.75], [1, 0.5]])
    assert course_figures({"loss": {"leak": course}})["loss"]["leak"]["from"] == [16, NEVER]
