"""From nothing to a circuit: a model that is grown on random tokens, and the report that finds out how it does induction."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from interp_jax.experiments.job import run_job
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING

CONFIGS = Path(__file__).parents[2] / "configs"
GROWN = {  # as `configs/grow.py:induction`, but for fewer steps and less that is measured
    "steps": 600, "measure.observations": 1, "measure.windows": 4, "measure.snippet": 8, "measure.samples": 1,
    "measure.sample_length": 8,
}  # fmt: skip
PATCHED = {"task.pairs": 24, "random_nodes": 4, "missed.sets": 0}


def job(config, directory, **overrides):
    values = {"output.directory": str(directory), **{key: str(value) for key, value in overrides.items()}}
    run_job(f"{CONFIGS}/{config}", values, ("none",), False, "./launch/local …", Console(file=open(os.devnull, "w")))


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """The page and the circuit of a grown model."""
    directory = tmp_path_factory.mktemp("grown")
    job("grow.py:induction", directory / "model", **GROWN)
    job("patching.py", directory / "patched", **{"model.path": directory / "model", **PATCHED})
    (known,) = json.loads((directory / "patched" / "circuits.json").read_text())
    return (directory / "patched" / "report.html").read_text(), known


@pytest.mark.slow
def test_the_induction_circuit_of_a_grown_model_is_found(grown):
    """Previous-token heads speak through the keys of induction heads, and through nothing else that is worth the name."""
    html, known = grown
    assert known["clean"] > 2 > abs(known["corrupted"]) + 1
    chain = known["chain"]
    assert chain["is_induction"] and chain["way"] == "k"
    first = chain["speakers"][0]
    assert first["head"].startswith("0.") and all(reader["head"].startswith("1.") for reader in chain["readers"])
    for direction in DIRECTIONS:
        through = {way: first[way][direction] for way in "qkv"}
        assert through["k"] > 0.2 and through["k"] > 4 * max(abs(through["q"]), abs(through["v"])), through
        assert through["k"] < first["alone"][direction] + 0.15
    assert np.max(known["heads"][DENOISING][0]) > 0.3 and np.max(known["heads"][NOISING][0]) > 0.3
    assert "Previous-token head" in html and "an induction circuit, by K-composition." in html


@pytest.mark.slow
def test_estimates_of_a_grown_model_agree_where_they_can(grown):
    """Attention is saturated: the plain gradient makes too little of keys in the corrupted run, and the exact softmax does not;
    integrated gradients see what heads do, of which the gradient at one end sees nothing."""
    _, known = grown
    keys = {method: found["slope"] for method, found in known["agreement"][DENOISING]["k"].items()}
    assert keys["AtP"] < 0.5 * keys["exact softmax"] and 0.5 < keys["exact softmax"] < 1.5
    for direction in DIRECTIONS:
        heads = {method: found["r_squared"] for method, found in known["agreement"][direction]["z"].items()}
        assert heads["integrated gradients"] > 0.5 > heads["AtP"]
