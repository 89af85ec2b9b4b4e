"""Planted concepts: erasers leave what they should, judges fail where they do not, and the report has every question."""

import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.experiments import erasure
from interp_jax.experiments.erasure import calibration
from interp_jax.experiments.erasure.planted import QUESTIONS
from tests.experiments.questions import answered, has_all_rows, holds_and_is_caught


@pytest.mark.parametrize("question", ["least change", "random subspace", "transport", "reliance"])
def test_what_is_planted_is_found_and_a_wrong_figure_is_caught(question):
    holds_and_is_caught(answered(erasure, question), calibration.ROWS[question][1])


def test_seeds_plant_other_concepts():
    first, second = (QUESTIONS["projection"](seed) for seed in (0, 1))
    assert not np.array_equal(first.found, second.found) and abs(first.truth[1] - second.truth[1]) > 1e-3
    assert 0.6 < first.truth[1] < first.truth[0], "a probe's own direction leaves much where activations are not white"


def test_every_question_has_a_row_of_the_certificate_and_of_the_report():
    has_all_rows(calibration, QUESTIONS)
    page = erasure.report([answered(erasure, "least change"), answered(erasure, "intervals")])
    assert "2 questions" in page.summary


def test_an_unknown_question_is_refused():
    with pytest.raises(InputError, match="did you mean 'transport'"):
        erasure.Config(question="transprt").check()
