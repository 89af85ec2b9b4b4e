"""The subjects are the models that they say, the analysis has its axes, and report and certificate can be made of it."""

import dataclasses
import os

import jax
import numpy as np
import pytest
from rich.console import Console

from interp_jax.errors import InputError
from interp_jax.experiments.config import build_experiment, compose
from interp_jax.experiments.job import run_job
from interp_jax.experiments.known_nodes import Config, populations, runs, subjects
from interp_jax.experiments.known_nodes.config import CIRCUITS, WITHOUT_EFFECT
from interp_jax.experiments.known_nodes.scores import found
from interp_jax.models import transformer
from interp_jax.patching.prompts import DIRECTIONS

SMALL = {"names": 6, "length": 6, "prompts": 3}


def logits(subject):
    return np.asarray(transformer.apply(subject.params, subject.prompts.clean, subject.cfg))


BUILT = [
    c if c == "cancelling" else pytest.param(c, marks=pytest.mark.slow) for c in CIRCUITS if c not in WITHOUT_EFFECT
]


@pytest.mark.parametrize("circuit", BUILT)
def test_a_random_basis_and_heads_that_do_not_leak_change_nothing(circuit):
    with jax.enable_x64(True):
        plain = Config(circuit=circuit, sharpness=8.0, **SMALL)
        alone, among = (subjects.subject_of(dataclasses.replace(plain, random_heads=n), 4) for n in (0, 3))
        built = subjects.CIRCUITS[circuit](plain)
        given = alone._replace(params=built[0], cfg=built[1])
        np.testing.assert_allclose(logits(alone), logits(given), atol=1e-5)  # one of the circuits is float32
        np.testing.assert_allclose(logits(among), logits(alone), atol=1e-9)
        assert among.cfg.n_heads == alone.cfg.n_heads + 3
        leaking = subjects.subject_of(dataclasses.replace(plain, random_heads=3, leak=0.02), 4)
        assert 1e-4 < np.abs(logits(leaking) - logits(among)).max() < 1.0
        ones = [(np.asarray(params["embed"]["W_E"]) != 0).mean() for params in (built[0], alone.params)]
        assert ones[0] < 0.2 and ones[1] == 1


def test_random_heads_look_somewhere():
    """Their scores are a few units: else they would be uniform heads, and no test of what looks."""
    subject = subjects.subject_of(Config(circuit="name_mover", random_heads=8, **SMALL), 0)
    attn, x = subject.params["blocks"]["attn"], transformer.embed(subject.params, subject.prompts.clean, subject.cfg)
    q, k = (np.einsum("bpd,hde->bphe", x, attn[name][0, 2:]) for name in ("W_Q", "W_K"))
    scores = np.einsum("bqhe,bkhe->bhqk", q, k)
    assert 1 < scores.std() < 5


@pytest.mark.slow
def test_the_analysis_has_its_axes_and_the_truth():
    config = Config(circuit="name_mover", random_heads=1, **SMALL)
    seen = runs.analysis(config, 3)
    heads = (4, 3)
    for way in DIRECTIONS:
        for method in runs.METHODS:
            assert seen[f"{way}.{method}"].shape == (4, *heads, 3)
        assert seen[f"{way}.edges"].shape == (3, 12, *heads, 3)
        total = (seen["clean"] - seen["corrupted"]).mean() * (1 if way == DIRECTIONS[0] else -1)
        np.testing.assert_allclose(seen[f"{way}.exact"].mean(-1) / total, seen[f"{way}.truth"], atol=1e-4)
        np.testing.assert_allclose(seen[f"{way}.edges"].mean(-1) / total, seen[f"{way}.edges_truth"], atol=1e-4)


@pytest.mark.slow
def test_random_nodes_are_of_every_layer():
    subject = subjects.subject_of(Config(circuit="no_mean_effect", names=12, length=5, prompts=3), 0)
    effects = runs.random_effects(subject, DIRECTIONS[0], 0)
    assert effects.shape == (2 * runs.RANDOM_NODES, 3) and (effects.std(0) > 1e-5).all()


def test_precision_and_recall_of_known_calls():
    estimate, true = np.array([[0.5, -0.2], [0.05, 0.0]]), np.array([[1.0, 0.0], [0.5, 0.0]])
    precision, recall = found(estimate, true, (0.01, 0.1, 0.9))
    np.testing.assert_allclose(precision, [2 / 3, 1 / 2, np.nan])
    np.testing.assert_allclose(recall, [1, 1 / 2, 0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"circuit": "name_movr"}, "circuit = 'name_movr': did you mean 'name_mover'?"),
        ({"circuit": "saturated", "corruption": "third"}, "corruption = 'third' of saturated: "),
        ({"leak": -1.0}, "leak = -1.0"),
        ({"steps": 2}, "steps = 2: nothing is trained"),
        ({"prompts": 1}, "prompts must be at least 2"),
    ],
)
def test_configs_that_cannot_be_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        build_experiment(compose(populations.MODULE, **overrides))


def test_more_prompts_than_there_are_is_refused():
    with pytest.raises(InputError, match="prompts = 99: cancelling has 16 with names = 4"):
        runs.experiment(Config(circuit="cancelling", names=4, prompts=99, sharpness=8.0))


@pytest.mark.slow
def test_a_job_of_one_circuit(tmp_path):
    values = {
        "output.directory": str(tmp_path),
        "circuit": "cancelling",
        "sharpness": "8.0",
        "names": "4",
        "prompts": "4",
    }
    console = Console(file=open(os.devnull, "w"))
    text = run_job("configs/known_nodes.py", values, [], False, "./launch/local …", console).read_text()
    assert "Where paths cancel" in text and "Where nothing" not in text
