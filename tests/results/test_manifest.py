"""The manifest is JSON that says what ran where."""

import json
import subprocess

import jax
import numpy as np

from interp_jax.results import manifest as module
from interp_jax.results.manifest import git_state, manifest, write_manifest


def test_the_manifest_is_json_with_everything_in_it(tmp_path):
    made = manifest({"model": {"n_hidden": 5}, "seeds": (0, 1)}, "abc", {"compile": 1.5, "run": np.float32(2)})
    write_manifest(tmp_path / "manifest.json", made)
    read = json.loads((tmp_path / "manifest.json").read_text())
    assert read["config"] == {"model": {"n_hidden": 5}, "seeds": [0, 1]} and read["config_hash"] == "abc"
    assert read["versions"]["jax"] == jax.__version__ and read["versions"]["orbax-checkpoint"]
    assert read["device"] == {
        "kind": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "count": jax.device_count(),
    }
    assert read["seconds"] == {"compile": 1.5, "run": 2.0}


def test_the_precision_in_force_is_the_one_recorded():
    with jax.default_matmul_precision("highest"):
        assert manifest({}, "", {})["matmul_precision"] == "highest"


def test_git_state_follows_the_checkout(tmp_path, monkeypatch):
    package = tmp_path / "house" / "library"
    (package / "results").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(module, "__file__", str(package / "results" / "manifest.py"))

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
        subprocess.run(["git", "-C", str(tmp_path / "house"), *identity, *arguments], check=True, capture_output=True)

    assert git_state() is None  # no checkout
    git("init")
    assert git_state() is None  # a checkout that does not hold the package
    git("add", ".")
    git("commit", "-m", "first")
    state = git_state()
    assert len(state["commit"]) == 40 and state["dirty"] is False
    (package / "__init__.py").write_text("changed")
    assert git_state() == state | {"dirty": True}


def test_a_machine_without_git_has_a_manifest(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert manifest({}, "", {})["git"] is None
