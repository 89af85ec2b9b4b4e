"""What is measured of populations: the right runs, no collectives, and figures that a person can read and a program too."""

import json

import jax
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.experiments.built import built
from interp_jax.experiments.experiment import Experiment
from interp_jax.launch import overheads, scaling, throughput
from interp_jax.launch.throughput import COLLECTIVES, SUBJECTS

SMALL = {"batch_size": 8}


@pytest.mark.parametrize("name", SUBJECTS)
def test_members_differ_by_their_seeds_alone(name):
    one = throughput.subject(name)
    assert isinstance(built(one.config.experiment, one.part), Experiment)
    members = throughput.of_seeds(one, 3)
    np.testing.assert_array_equal(members.seed, [0, 1, 2])
    for leaf in jax.tree.leaves(members):
        assert leaf.shape == (3,)
    rates = members.optimizer.learning_rate
    assert (rates == rates[0]).all()


def test_a_population_is_timed_as_a_chunk_runs_it_and_sends_nothing():
    found = throughput.rate(throughput.subject("superposition", **SMALL), 4, batch=1)
    assert (found.members, found.batch, found.collectives) == (4, 1, 0)
    assert found.member_steps == pytest.approx(4 / found.step) and found.step > 0


def test_collectives_are_counted():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    there = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    text = jax.jit(lambda x: x.sum()).lower(jax.ShapeDtypeStruct((8,), np.float32, sharding=there)).compile().as_text()
    assert len(COLLECTIVES.findall(text)) == 1


def test_a_checkpoint_is_weighed():
    one, many = (overheads.saved("superposition", n) for n in (1, 1_000))
    assert many.bytes > 20 * one.bytes and min(one.write, one.read) > 0


def test_populations_grow_until_more_bring_no_more_or_as_far_as_was_asked(monkeypatch):
    rate = lambda one, n: throughput.Rate(n, 1, n / min(n, 4), 0.0, 0)  # saturated at four members
    monkeypatch.setattr(throughput, "rate", rate)
    one = throughput.subject("superposition")
    members = lambda *how: [found.members for found in throughput.sizes(one, *how)]
    assert members(1_000) == [1, 2, 4, 8, 16]
    assert members(1_000, 4) == [1, 4, 16, 64, 256, 1_000] and members(16, 4) == [1, 4, 16]
    assert members(2) == [1, 2]


@pytest.mark.slow
def test_the_command_prints_a_table_and_json(capsys, monkeypatch):
    monkeypatch.setitem(SUBJECTS, "superposition", SUBJECTS["superposition"] | SMALL)
    scaling.main(["chunks", "--quick"])
    *_, last = capsys.readouterr().out.splitlines()
    (row,) = json.loads(last)["chunks"]
    assert row["chunks"] == 3 and 0 < row["s a chunk"] < 60
    scaling.main(["population", "--most", "2"])
    said = capsys.readouterr().out
    assert [row["members"] for row in json.loads(said.splitlines()[-1])["population"]] == [1, 2]
    assert "member-steps/s" in said.splitlines()[0] or "member-steps/s" in said
    scaling.main([])
    assert "./launch/scaling devices" in capsys.readouterr().out
    with pytest.raises(InputError, match="--most must be at least 1"):
        scaling.main(["population", "--most", "0"])
    with pytest.raises(InputError, match="--factor must be at least 2"):
        scaling.main(["population", "--factor", "1"])
