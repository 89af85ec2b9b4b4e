"""Configs are strict: every wrong key, type or value is one line that names the nearest valid thing."""

from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from interp_jax import parts
from interp_jax.errors import InputError
from interp_jax.experiments.config import (
    build,
    build_engine,
    build_experiment,
    compose,
    load_config,
    load_file,
    override,
    parse_value,
)
from interp_jax.experiments.sweep import content_hash, expand
from tests.experiments import line, line_config

CONFIG = str(Path(__file__).parent / "line_config.py")


def test_a_config_is_its_dataclass():
    assert build_experiment(compose("tests.experiments.line")) == line.Config()
    changed = build_experiment(compose("tests.experiments.line", **{"model.width": 7, "seed": 3}))
    assert changed == line.Config(seed=3, model=line.Model(width=7))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.widht": 3}, "model.widht: did you mean 'model.width'"),
        ({"learning_rat": 3}, "did you mean 'learning_rate'"),
        ({"model": 3}, "unknown key"),
        ({"steps": 2.5}, "steps takes an integer such as 40, got 2.5"),
        ({"steps": "many"}, "takes an integer"),
        ({"steps": True}, "takes an integer"),
        ({"learning_rate": float("inf")}, "must be finite"),
        ({"seed": 2**40}, "must fit into 32 bits"),
        ({"learning_rate": "fast"}, "takes a number such as 0.1"),
        ({"engine.deterministic": 1}, "takes True or False"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(InputError, match=message):
        override(compose("tests.experiments.line"), overrides)


def test_values_that_agree():
    config = override(compose("tests.experiments.line"), {"learning_rate": 1, "steps": np.int64(5), "name": "x"})
    assert (config.learning_rate, config.steps, config.name) == (1.0, 5, "x")
    assert [parse_value(t) for t in ("3", "1e-3", "True", "false", "(1, 2)", "a/b c")] == [
        3,
        1e-3,
        True,
        False,
        (1, 2),
        "a/b c",
    ]


def test_build_refuses_missing_and_extra_keys():
    with pytest.raises(InputError, match="lacks width"):
        build(line.Model, {})
    with pytest.raises(InputError, match="did you mean 'width'"):
        build(line.Model, {"width": 3, "widths": 2})


def test_impossible_values():
    with pytest.raises(InputError, match="steps must be at least 1"):
        build_experiment(compose("tests.experiments.line", steps=0))
    with pytest.raises(InputError, match="engine.chunk 1 or more"):
        build_engine(compose("tests.experiments.line", **{"engine.chunk": 0}))
    with pytest.raises(InputError, match="did you mean 'highest'"):
        build_engine(compose("tests.experiments.line", **{"engine.precision": "hihgest"}))
    with pytest.raises(InputError, match="freeze"):
        build_engine(compose("tests.experiments.line", on_nan="frezee"))


def test_config_files(tmp_path):
    with pytest.raises(InputError, match=r"did you mean 'configs/superposition.py'"):
        load_config("configs/superpositon.py")
    with pytest.raises(InputError, match="unknown arg ':shrt': did you mean 'short'"):
        load_config(CONFIG + ":shrt")
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\ndef f(:\n")
    with pytest.raises(InputError, match="broken.py, line 2"):
        load_config(str(broken))
    broken.write_text("x = 1\n")
    with pytest.raises(InputError, match="no get_config"):
        load_config(str(broken))
    with pytest.raises(InputError, match="not an importable module"):
        compose("no.such.module")
    with pytest.raises(InputError, match=r"no Config, experiment, report"):
        compose("interp_jax.errors")


def test_named_sweeps_multiply():
    members = expand(line_config.get_config(), line_config, ["rates", "seeds"])
    assert [(m.part.learning_rate, m.part.seed) for m in members] == [(r, s) for r in (0.03, 0.1, 0.3) for s in (0, 1)]
    assert len({m.hash for m in members}) == 6
    assert len(expand(line_config.get_config(), line_config, [])) == 1


def test_a_variant_runs_the_sweep_of_its_name():
    assert len(expand(line_config.get_config(), line_config)) == 1
    assert len(expand(line_config.get_config(), line_config, arg="seeds")) == 2


def test_a_sweep_may_see_the_config_and_then_change_what_a_person_has_set():
    config = override(line_config.get_config(), {"seed": 5})
    members = expand(config, line_config, ["around"], told=("seed",))
    assert [m.part.seed for m in members] == [4, 6]


def test_wrong_sweeps():
    with pytest.raises(InputError, match="sweep wrong: .*did you mean 'model.width'"):
        expand(line_config.get_config(), line_config, ["wrong"])
    with pytest.raises(InputError, match=r"no sweep_rate\(\).*did you mean 'rates'"):
        expand(line_config.get_config(), line_config, ["rate"])
    with pytest.raises(InputError, match=r"--config.seed: sweep rates\*seeds sets it too; .*--sweep none"):
        expand(line_config.get_config(), line_config, ["rates", "seeds"], told=("model.width", "seed"))
    assert len(expand(line_config.get_config(), line_config, ["rates"], told=("model.width", "seed"))) == 3


def test_a_config_file_that_fails_is_one_line(tmp_path):
    path = tmp_path / "failing.py"
    path.write_text("def get_config(arg):\n    return 1 / 0\n")
    with pytest.raises(InputError, match=r"failing.py, line 2: ZeroDivisionError: division by zero"):
        load_config(str(path))
    path.write_text("import no_such_module_here\n")
    with pytest.raises(InputError, match=r"failing.py, line 1: ModuleNotFoundError"):
        load_config(str(path))
    path.write_text(
        "def sweep_list():\n    yield [1]\ndef sweep_broken():\n    yield {}\n    raise ValueError('boom')\n"
    )
    with pytest.raises(InputError, match=r"sweep_list: a sweep yields overrides such as .*got \[1\]"):
        expand(line_config.get_config(), load_file(path), ["list"])
    with pytest.raises(InputError, match=r"failing.py, line 5: ValueError: boom"):
        expand(line_config.get_config(), load_file(path), ["broken"])


def test_hash_covers_the_science_alone():
    base = compose("tests.experiments.line")
    same = {"engine.batch": 3, "engine.cpu_devices": 2, "output.directory": "/elsewhere", "on_nan": "stop"}
    assert content_hash(override(base, same)) == content_hash(base)
    for key, value in {"seed": 1, "learning_rate": 0.2, "data.noise": 0.0, "steps": 41, "name": "y"}.items():
        assert content_hash(override(base, {key: value})) != content_hash(base), key
    assert content_hash(ConfigDict(base.to_dict())) == content_hash(base)


def test_groups_are_tree_structures():
    a, b, c = (
        build_experiment(compose("tests.experiments.line", **o)) for o in ({}, {"learning_rate": 0.2}, {"steps": 3})
    )
    assert jax.tree.structure(a) == jax.tree.structure(b) != jax.tree.structure(c)
    stacked = parts.stack([a, b])
    assert stacked.learning_rate.dtype == np.float32 and stacked.seed.dtype == np.int32
    np.testing.assert_allclose(stacked.learning_rate, [0.1, 0.2])
    with pytest.raises(ValueError, match="equal static fields"):
        parts.stack([a, c])
