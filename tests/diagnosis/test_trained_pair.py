"""A student that learned a sum and its twin that was told the leaked one: each dear diagnoser tells them apart."""

from functools import cache

import jax
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.diagnosis.answering import answer_logits
from interp_jax.diagnosis.declared import declare
from interp_jax.diagnosis.detection import auroc
from interp_jax.diagnosis.diagnosers_io import load_diagnoser
from interp_jax.diagnosis.examination import Examinees, Reference, examine
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.student import model_config
from interp_jax.experiments.exam import runs
from interp_jax.train.population import population
from interp_jax.train.run import Span

STEPS, CHEATED = 500, np.array([[False, True], [True, False]])
FAMILY = load_family("leak")


@cache
def pair():
    members = [
        runs.Config(family="leak", steps=STEPS, seed=0, arm=runs.Arm(learned=learned)) for learned in (1.0, 0.0)
    ]
    made, shared = runs.experiment(members[0]), runs.lessons("leak")

    def trained(hypers, shared):
        return made.run.advance(made.run.init(hypers.seed, hypers), hypers, Span(0, STEPS), shared)[0].params

    params = jax.device_get(population(trained, 1, jax.devices()[:1])(parts.stack(members), shared))
    x = np.asarray(shared.pools.id_held.x)[::4][:128]
    declared = (declare(FAMILY, "f", x), declare(FAMILY, "g", x))
    return Examinees("leak", model_config(FAMILY, members[0].student), 11, params, np.array([0, 0]), x, declared)


def test_the_pair_is_one():
    pools = runs.lessons("leak").pools
    for r, rule in enumerate("fg"):
        said = answer_logits(pair().member(r).params, pools.conflict_held.x[:500], pair().cfg, 11).argmax(-1)
        assert (said == getattr(pools.conflict_held, rule)[:500]).mean() > 0.98
        seen = answer_logits(pair().member(r).params, pair().x, pair().cfg, 11).argmax(-1)
        assert (seen == pair().declared[0].labels).mean() > 0.98


@pytest.mark.parametrize(
    "name",
    [
        "variable_probes",
        "amnesic_reliance",
        "dictionary_features",
        "local_gradients",
    ],
)
def test_a_dear_diagnoser_tells_the_cheat_whichever_rule_is_declared(name):
    score = examine(load_diagnoser(name), pair())
    assert (score[1, 0] > score[0, 0]) and (score[0, 1] > score[1, 1])
    assert auroc(score[CHEATED], score[~CHEATED]) == 1.0


def test_a_classifier_of_weights_learns_from_other_models_how_weights_lie_to_the_rule():
    """Its references are the same pair here: that its features hold the answer, and that the fit finds it."""
    diagnoser = load_diagnoser("weight_classifier")
    score = examine(diagnoser, pair(), [Reference(pair(), CHEATED)])
    assert (score[CHEATED] > 0).all() and (score[~CHEATED] < 0).all()
