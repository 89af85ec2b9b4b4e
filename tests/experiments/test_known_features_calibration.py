"""The certificate's rows of dictionaries: judges fail where anything is missed, and a quick row runs to its certificate."""

import json
import os

import numpy as np
import pytest
from rich.console import Console

from interp_jax.experiments.config import CONFIGS
from interp_jax.experiments.job import run_job
from interp_jax.experiments.known_features import calibration, runs
from interp_jax.experiments.known_features.scores import Scores
from interp_jax.experiments.sweep import member
from tests.experiments.groups import group_of

ROWS = {one.name.removeprefix("dictionaries: "): one for one in calibration.instruments()}


def scores(**given):
    """Of five runs; what is not given is 0."""
    return Scores(**{name: np.asarray(given.get(name, np.zeros(5)), np.float64) for name in Scores._fields})


def test_one_run_that_misses_directions_fails_the_row():
    found = np.array([0.99, 0.97, 0.96, 0.98, 0.951])
    verdict = calibration.judge_directions([scores(mean_max_cosine=found)])
    assert verdict.passed and verdict.seeds == 5 and verdict.value == pytest.approx(1 - found.mean())
    assert verdict.low < verdict.value < verdict.high
    for wrong in (0.949, 0.0, np.nan):
        missed = np.append(found[:4], wrong)
        assert not calibration.judge_directions([scores(mean_max_cosine=missed)]).passed
        assert not calibration.judge_directions([scores(mean_max_cosine=found), scores(mean_max_cosine=missed)]).passed


ABSORBED = np.array([0.3, 0.25, 0.4, 0.35, 0.3])


@pytest.mark.parametrize(
    ("plain", "nested", "passed"),
    [
        (ABSORBED, ABSORBED - 0.1 - np.arange(5) / 100, True),
        (ABSORBED, ABSORBED, False),
        (ABSORBED, ABSORBED + 0.1, False),
        (ABSORBED, ABSORBED - [0.3, -0.2, 0.2, -0.2, 0.1], False),  # less on average, but not to be told from nothing
        (np.append(ABSORBED[:4], 0.0), ABSORBED - 0.4, False),  # what is planted does not show in every run
        (ABSORBED, np.append(ABSORBED[:4] - 0.1, np.nan), False),
    ],
    ids=["less", "alike", "more", "noise", "nothing planted", "not a number"],
)
def test_absorption_has_to_be_there_and_less_of_it_by_matryoshka(plain, nested, passed):
    verdict = calibration.judge_absorbed([scores(absorbed=plain), scores(absorbed=nested)])
    assert verdict.passed == passed and verdict.seeds == 5


def test_rows_are_of_all_kinds_and_their_runs_are_valid():
    assert len(ROWS) == len(calibration.KINDS) + len(calibration.OF_TOYS) + 1
    for one in ROWS.values():
        full, quick = ([member(config).part for config in one.configs(q)] for q in (False, True))
        kinds = [part.dictionary.kind for part in full]
        assert len(full) == calibration.SEEDS * len(set(kinds)) and len(quick) == 2 * len(set(kinds))
        assert all(part.steps == 20 for part in quick) and all(part.steps == 4_000 for part in full)


def test_a_run_that_became_non_finite_fails_its_row():
    """Whatever the others found; all of them too."""
    one = ROWS["TopK, directions"]
    part = member(one.configs(True)[0]).part
    made = runs.experiment(part)
    found = made.shared.directions[: part.dictionary.n_features]  # the truth itself
    state = made.run.init(0, part)
    state = state.replace(params=state.params | {"W_enc": found, "W_dec": found})
    seen = made.observe(state, part, made.shared) | made.analyse(state, part, made.shared)
    group = group_of(part, [seen] * 3)
    assert one.judge([group]).passed
    for diverged_at in ([-1, 7, -1], [3, 7, 0]):
        verdict = one.judge([group._replace(diverged_at=np.array(diverged_at))])
        assert not verdict.passed and "non-finite" in verdict.error


@pytest.mark.slow
def test_a_quick_row_runs_from_config_to_certificate(tmp_path):
    words = {"only": "dictionaries: TopK, directions", "output.directory": str(tmp_path)}
    quiet = Console(file=open(os.devnull, "w"))
    run_job(str(CONFIGS / "calibration.py:tiny"), words, ("none",), False, "./launch/local …", quiet)
    (row,) = json.loads((tmp_path / "calibration.json").read_text())
    assert row["instrument"] == "dictionaries: TopK, directions" and row["quick"] and row["seeds"] == 2
    assert 0.05 < row["value"] < 1 and not row["passed"], "in twenty steps nothing is learned"
