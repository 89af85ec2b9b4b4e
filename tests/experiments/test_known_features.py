"""Dictionaries on known features: what a run reads and observes, what its sweeps are, and what the report says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.data.known_features import draw_known
from interp_jax.errors import InputError
from interp_jax.experiments import known_features
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.known_features.config import Config
from interp_jax.experiments.known_features.runs import experiment
from interp_jax.experiments.known_features.scores import Scores, scores_of
from interp_jax.experiments.sweep import expand
from interp_jax.parts import stack
from interp_jax.results.blocks import Figure, TableBlock
from interp_jax.results.report import render
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import ALIVE, RunState, Span
from tests.experiments.groups import group_of
from tests.experiments.one_chunk import run_alone

FILE = load_file(CONFIGS / "known_features.py")
SMALL = expand(FILE.get_config("tiny"), FILE, ["tiny"])[0].part


@pytest.mark.parametrize(("arg", "n", "groups"), [("", 35, 7), ("tiny", 14, 7), ("frontier", 112, 7), ("16k", 7, 7)])
def test_sweeps_expand_to_valid_members(arg, n, groups):
    members = expand(FILE.get_config("" if arg == "frontier" else arg), FILE, [arg or "default"])
    assert len(members) == n and len({jax.tree.structure(m.part) for m in members}) == groups


def test_all_members_read_the_same_examples_which_no_other_step_has():
    made = experiment(SMALL)
    stream = made.stream(made.shared, jnp.int32(20))
    want = draw_known(made.shared, SMALL.data, SMALL.batch_size, SMALL.stream_seed, "train", 23).x
    np.testing.assert_allclose(stream.x[3], want, rtol=1e-5, atol=1e-6)
    assert stream.x.shape == (SMALL.stream_steps, SMALL.batch_size, SMALL.data.d_model)
    assert len(np.unique(np.asarray(stream.x[:, 0, 0]))) == SMALL.stream_steps


def ideal(config):
    """A dictionary of the true directions as far as they go, each with an encoder that reads it in absence of others."""
    made = experiment(config)
    d = np.asarray(made.shared.directions)[: config.dictionary.n_features]
    params = {"W_enc": d, "W_dec": d, "b_enc": np.zeros(len(d), np.float32), "b_dec": np.zeros(d.shape[1], np.float32)}
    return made, RunState(np.int32(0), params, (), np.int32(ALIVE))


def test_true_directions_are_seen_to_be_true():
    """Sixteen features in sixteen dimensions, orthogonal but for rounding: all is found, and everything explained."""
    data = dataclasses.replace(SMALL.data, n_features=16, d_model=16, roots=0, orthogonalised=2_000)
    cfg = dataclasses.replace(SMALL.dictionary, kind="standard", d_in=16, n_features=16)
    config = dataclasses.replace(SMALL, data=data, dictionary=cfg)
    made, state = ideal(config)
    seen = jax.jit(made.observe)(state, config, made.shared) | made.analyse(state, config, made.shared)
    scores = scores_of(group_of(config, [seen]))
    assert scores.mcc[0] > 0.999 and scores.uniqueness[0] == 1 and scores.mean_max_cosine[0] > 0.999
    assert scores.explained_variance[0] > 0.99 and scores.recall[0] > 0.97
    counted = np.asarray(seen["detections.actual"]).sum() / (config.measure.blocks * config.measure.examples)
    np.testing.assert_allclose(scores.true_l0[0], counted, rtol=1e-5)


def test_a_run_learns_and_the_report_has_every_member():
    """Two dictionaries on a stream: F1 and explained variance rise above those of the first parameters."""
    config = dataclasses.replace(SMALL, steps=30)
    made = experiment(config)
    stream = made.stream(made.shared, jnp.int32(0))
    observe = jax.jit(made.observe)
    before, after = [], []
    for seed in range(2):
        hypers = dataclasses.replace(config, seed=seed)
        state = made.run.init(seed, hypers)
        before.append(observe(state, hypers, made.shared) | made.analyse(state, hypers, made.shared))
        state, _ = jax.jit(made.run.advance)(state, hypers, Span(np.int32(0), np.int32(config.stream_steps)), stream)
        after.append(observe(state, hypers, made.shared) | made.analyse(state, hypers, made.shared))
    first, last = scores_of(group_of(config, before)), scores_of(group_of(config, after))
    assert (last.explained_variance > first.explained_variance).all()
    page = known_features.report([group_of(config, after)])
    (table,) = [block.table for block in page.blocks if isinstance(block, TableBlock)]
    assert [row[0] for row in table.rows] == ["BatchTopK, k = 5"]
    assert len(page.data["known_features.json"]) == 2
    assert "NaN" not in render(page.title, page.summary, page.blocks)


def test_silent_dictionaries_are_complained_of_while_they_run_once(tmp_path, capsys):
    """Those of a penalty far too strong; the others of their population go on, and nothing is said of them."""
    own = dataclasses.replace(SMALL.dictionary, kind="standard")
    config = dataclasses.replace(SMALL, dictionary=own, optimizer=Optimizer(learning_rate=0.1))
    members = [
        dataclasses.replace(config, seed=seed, dictionary=dataclasses.replace(own, sparsity=sparsity))
        for seed, sparsity in enumerate((0.0, 1e3))
    ]
    run_alone(experiment(config), stack(members), ("0", "1"), tmp_path)
    said = capsys.readouterr().err
    assert said.count("warning:") == 1 and "no feature is active in 1 of 2 L1 dictionaries by step" in said
    assert "(members 1): the penalty is too strong (dictionary.sparsity, sparsity_warmup)" in said


def test_a_frontier_is_drawn_of_several_sparsities():
    config = dataclasses.replace(SMALL, steps=30)
    made = experiment(config)
    state = made.run.init(0, config)
    seen = jax.jit(made.observe)(state, config, made.shared) | made.analyse(state, config, made.shared)
    group = group_of(config, [seen, seen])
    group.config.dictionary.k[1] = 3
    page = known_features.report([group])
    assert sum(isinstance(block, Figure) for block in page.blocks) == 3
    diverged = group._replace(diverged_at=np.array([ALIVE, 5]))
    assert all(len(values) == 1 for values in scores_of(diverged)) and isinstance(scores_of(diverged), Scores)


def test_widths_must_agree():
    with pytest.raises(InputError, match="dictionary.d_in = 8, d_out = 0: .* data.d_model = 64"):
        dataclasses.replace(SMALL, dictionary=dataclasses.replace(SMALL.dictionary, d_in=8)).check()
    with pytest.raises(InputError, match="stream_steps"):
        Config(stream_steps=0).check()
