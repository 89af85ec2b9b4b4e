"""The analysis has its axes, the report can be made of it, and configs that cannot be are refused."""

import dataclasses
import os

import numpy as np
import pytest
from rich.console import Console

from interp_jax.errors import InputError
from interp_jax.experiments.alignment import Config, populations, runs, scores
from interp_jax.experiments.config import build_experiment, compose
from interp_jax.experiments.job import run_job
from interp_jax.models.relay_circuit import AHEAD, BEHIND, HELD
from interp_jax.patching.alignment.config import VARIANTS

SMALL = Config(layers=2, width=16, columns=3, searches=2, steps_of_search=3, pairs=16, held_out=8)
SHAPE = (8, 2)  # places, searches


def test_the_analysis_has_its_axes():
    seen = runs.analysis(SMALL, 3)
    for name in (*runs.EVALUATIONS, "dimensions", "shared", "shared_random", "shared_bystander"):
        assert seen[name].shape == SHAPE
    np.testing.assert_array_equal(seen["layer"], np.repeat([0, 1], 4))
    np.testing.assert_array_equal(seen["position"], np.tile(range(4), 2))
    np.testing.assert_array_equal(seen["dimensions"], np.full(SHAPE, 2))
    assert (seen["learned"] * 8 % 1 == 0).all() and (seen["shared"] <= 2).all() and (seen["shared"] > 0).all()


def test_members_of_one_run_differ_by_place_and_seed_and_runs_by_seed():
    members = [m for seed in (0, 1) for m in runs.searches(SMALL, seed)]
    assert len({(m.layer, m.place, m.seed) for m in members}) == 32
    some = runs.searches(dataclasses.replace(SMALL, everywhere=False), 0)
    assert {(m.layer, m.place) for m in some} == {(0, 2), (0, 3), (1, 3)}


def test_pairs_that_are_held_out_are_other_pairs_of_the_same_kind():
    train, held_out = runs.pairs(SMALL, 5)
    assert train.base.shape == (16, 4) and held_out.base.shape == (8, 4)
    assert not (train.base[:8] == held_out.base).all(1).any()
    np.testing.assert_array_equal(train.where[:, 0], np.eye(4, dtype=bool))
    np.testing.assert_array_equal(held_out.at, 3)


def test_variants_say_what_they_search_for():
    asked = [dataclasses.replace(SMALL, variant=variant) for variant in VARIANTS]
    found = {c.variant: runs.searches(c, 0)[0] for c in asked}
    assert (found["orthonormal"].k, found["orthonormal"].width) == (2, 3)
    assert (found["low_rank"].k, found["low_rank"].width) == (0, 3)
    assert (found["boundless"].k, found["boundless"].width, found["boundless"].price) == (0, 0, 3.0)
    assert runs.searches(dataclasses.replace(SMALL, k=3), 0)[0].k == 3


def population(seen):
    """Two runs, of variables of one and three dimensions."""
    stated = {"seed": np.arange(2), "dimensions": np.array([1, 3]), "k": np.zeros(2, int), "bystander": np.zeros(2)}
    kinds = np.array([HELD, AHEAD, BEHIND, HELD])
    return scores.Population(SMALL, stated | {"margin": np.ones(2)}, kinds, seen)


def test_scores_of_known_numbers():
    accuracy = np.array([[[1.0], [0.5], [0.5], [0.75]], [[1.0], [0.25], [0.25], [1.0]]])
    shared = np.array([[[1.0], [0.0], [0.0], [0.5]], [[3.0], [0.0], [0.0], [2.4]]])
    one = population({"learned": accuracy, "shared": shared})
    np.testing.assert_allclose(scores.accuracy(one, "learned", HELD), [0.875, 1.0])
    np.testing.assert_allclose(scores.excess(one, "learned", AHEAD), [0.0, 0.0])
    np.testing.assert_allclose(scores.scaled(one, "learned", HELD), [0.75, 1.0])
    np.testing.assert_allclose(scores.share(one), [0.75, 0.9])
    np.testing.assert_array_equal(scores.right_of_one_each(one, "learned", HELD), [8, 8])  # the first; the last
    assert len(one.of_dimensions(3)) == 1 and one.of_dimensions(3).stated["seed"] == [1]


def test_plain_runs_have_no_copy_and_ask_for_what_is_there():
    one = population({})
    assert len(scores.plain(one)) == 2
    one.stated["k"][:] = 1
    np.testing.assert_array_equal(scores.plain(one).stated["dimensions"], [1])
    one.stated["bystander"][:] = 1
    assert len(scores.plain(one)) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"variant": "boundles"}, "variant = 'boundles': did you mean 'boundless'?"),
        ({"steps": 2}, "steps = 2: no model is trained"),
        ({"searches": 0}, "searches, steps_of_search, pairs and held_out must be at least 1"),
        ({"k": 5}, "columns = 4: must be at least k and dimensions"),
        ({"dimensions": 5}, "columns = 4: must be at least k and dimensions"),
        ({"bystander": -1.0}, "margin = 8.0, bystander = -1.0"),
    ],
)
def test_configs_that_cannot_be_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        build_experiment(compose(populations.MODULE, **overrides))


def test_relays_that_cannot_be_are_refused_before_anything_runs():
    with pytest.raises(InputError, match="d_vocab = 25: 3 classes"):
        runs.experiment(Config(vocabulary=25))


@pytest.mark.slow
def test_a_job_of_every_kind_of_run(tmp_path):
    """With few steps: what is found is not looked at."""
    small = {"steps_of_search": 5, "pairs": 16, "held_out": 16}
    values = {"output.directory": str(tmp_path), **{name: str(value) for name, value in small.items()}}
    console = Console(file=open(os.devnull, "w"))
    path = tmp_path / "few.py"
    path.write_text(
        "from interp_jax.experiments.alignment.populations import MODULE, asked, copied, located\n"
        "from interp_jax.experiments.config import compose\n"
        "def get_config(arg=''): return compose(MODULE)\n"
        "def sweep_default():\n"
        "    for run in (*located('orthonormal', True)[:1], *asked(True)[:4], *copied(True)[:2]):\n"
        f"        yield run | {small}\n"
    )
    text = run_job(
        str(path), {"output.directory": str(tmp_path)}, None, False, "./launch/local …", console
    ).read_text()
    for heading in ("Where the variable is", "Which subspace", "How many dimensions", "What accuracy does not show"):
        assert heading in text
    one = tmp_path / "one"
    values |= {"output.directory": str(one), "layers": "1", "searches": "1"}
    text = run_job("configs/alignment.py", values, [], False, "./launch/local …", console).read_text()
    assert "Where the variable is" in text and "What accuracy does not show" not in text
