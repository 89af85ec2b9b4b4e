"""Planted directions: methods find what they should, judges fail where they do not, and the report has every question."""

import pytest

from interp_jax.errors import InputError
from interp_jax.experiments import known_directions
from interp_jax.experiments.known_directions import calibration
from interp_jax.experiments.known_directions.planted import QUESTIONS
from tests.experiments.questions import answered, has_all_rows, holds_and_is_caught


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_planted_is_found_and_a_wrong_figure_is_caught(question):
    holds_and_is_caught(answered(known_directions, question), calibration.ROWS[question][1], every=7)


def test_every_question_has_a_row_of_the_certificate_and_of_the_report():
    has_all_rows(calibration, QUESTIONS)
    page = known_directions.report([answered(known_directions, "weight edits")])
    assert "1 questions" in page.summary


def test_an_unknown_question_is_refused():
    with pytest.raises(InputError, match="did you mean 'gates'"):
        known_directions.Config(question="gate").check()
