"""The planner: what it says of memory and compilations is what compilers and jobs do; it freezes and runs nothing."""

import numpy as np
import pytest

from interp_jax.experiments.frozen import read_frozen
from interp_jax.experiments.worker import main as worker
from interp_jax.launch import estimates, plan
from interp_jax.launch.estimates import Memory
from tests.experiments.frozen_lines import CONFIG, chunks

WORDS = ["--config", CONFIG, "--sweep", "rates", "--sweep", "seeds", "--sweep", "widths"]


def planned(directory, *more):
    plan.main([*WORDS, f"--config.output.directory={directory}", *more])


def test_it_freezes_and_says_what_will_run(tmp_path, capsys, compilations):
    planned(tmp_path, "--config.engine.batch=1")
    said = capsys.readouterr().out
    assert "12 runs in 2 groups and 2 chunks" in said and "devices: 4 × cpu" in said
    assert "compilations: 6, about" in said
    assert "line model.width=2" in said and "line model.width=3" in said
    assert not (tmp_path / "chunks").exists()
    with compilations() as names:
        worker([str(tmp_path)])
    assert names.count("on_device") == 6
    assert len(chunks(tmp_path)) == 2
    planned(tmp_path, "--no-probe")
    assert "0 runs in 0 groups and 0 chunks (12 more are finished)" in capsys.readouterr().out


def test_chunks_are_cut_to_the_memory_that_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan, "fits", lambda group: 4)
    planned(tmp_path, "--no-probe")
    assert [len(c.members) for c in read_frozen(tmp_path).chunks] == [6, 6]
    planned(tmp_path / "small")
    assert [len(c.members) for c in read_frozen(tmp_path / "small").chunks] == [4, 2, 4, 2]
    assert "12 runs in 2 groups and 4 chunks" in capsys.readouterr().out


def test_memory_is_linear_and_what_the_compiler_says(tmp_path):
    from interp_jax.experiments.config import compose
    from interp_jax.experiments.sweep import member

    group = [member(compose("tests.experiments.line", **{"model.width": 64, "data.examples": 256, "seed": s}))
             for s in range(4)]  # fmt: skip
    memory = estimates.measure_memory(group)
    from interp_jax.experiments.built import built

    experiment = built(group[0].config.experiment, group[0].part)
    kept, work = estimates._sizes(experiment, group, 16)  # four a device, of which four at once
    assert memory.bytes(4, 4) == pytest.approx(kept + work, rel=0.05)
    few, many = (sum(estimates._sizes(experiment, group, n, batch=1)) for n in (64, 128))
    assert memory.bytes(32, 1) - memory.bytes(16, 1) == pytest.approx(many - few, rel=0.05), "two copies of each"
    assert memory.bytes(32, 1) == pytest.approx(many, rel=0.1)
    assert memory.work > 256 * 64 * 4  # the examples of a step


def test_a_run_over_all_devices_takes_its_part_of_each():
    from interp_jax.experiments.config import compose
    from interp_jax.experiments.sweep import member

    wide = {"model.d_model": 64, "model.d_mlp": 256}
    one, four = (
        estimates.measure_memory([member(compose("tests.experiments.small_transformer", model_shards=n, **wide))])
        for n in (1, 4)
    )
    assert one.devices == four.devices == 1, "members are not spread"
    assert 0.25 < four.state / one.state < 0.4, "norms and positions are everywhere"


def test_fits_is_the_largest_that_fits():
    for at_once in (0, 8, 1000):
        memory = Memory(fixed=1e6, state=1e4, work=5e4, limit=1e8, devices=2)
        n = memory.fits(at_once) // 2
        batch = at_once or n + 1
        assert memory.bytes(n, batch) <= 0.8e8 < memory.bytes(n + 1, batch)
    assert Memory(1e9, 1.0, 1.0, 1e6, 4).fits(0) == 4
    assert np.isfinite(memory.bytes(1, 1))
