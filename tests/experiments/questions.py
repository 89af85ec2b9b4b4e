"""Of calibrations whose runs are a question and a seed: their answers, and whether the judge sees a wrong one."""

import numpy as np

from interp_jax import parts
from interp_jax.experiments import known_answers
from interp_jax.experiments.experiment import GroupResult


def answered(experiment, question, n=2):
    """A group of n seeds, as `experiment` asks them."""
    members = [experiment.Config(seed=i, question=question) for i in range(n)]
    made = experiment.experiment(members[0])
    each = [made.analyse(made.run.init(i, member), member, ()) for i, member in enumerate(members)]
    seen = {name: np.stack([one[name] for one in each]) for name in each[0]}
    return GroupResult(parts.stack(members), tuple("ab"), np.full(n, -1), {1: seen}, {}, np.zeros(0), (), np.zeros(n))


def holds_and_is_caught(group, bar, every=1):
    """The judge is content, and would not be if any figure (any of that many) were wrong."""
    verdict = known_answers.judge(bar, [group])
    assert verdict.passed and verdict.seeds == 2, verdict
    seen = group.observations[1]
    for i in range(0, seen["found"].shape[1], every):
        wrong = seen["found"].copy()
        wrong[1, i] = seen["truth"][1, i] + 1.5 * bar
        assert not known_answers.judge(bar, [group._replace(observations={1: {**seen, "found": wrong}})]).passed


def has_all_rows(calibration, questions):
    """Each question has a row of the certificate, and a quick version of two seeds."""
    assert set(calibration.ROWS) == set(questions)
    made = [config for one in calibration.instruments() for config in one.configs(True)]
    assert len(made) == 2 * len(calibration.ROWS)
