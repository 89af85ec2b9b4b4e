"""The probing example of the docs: its blocks run as they stand, and its table is what they print."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from interp_jax.errors import InputError

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "probing_example.md"
BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"(\d\.\d\d) \((\d\.\d\d)–(\d\.\d\d)\)")
SLACK = 0.03  # of a figure, on another machine: a dozen of the sentences of a test


@pytest.fixture(scope="module")
def example():
    """What the page's code leaves behind, and what it prints."""
    printed, namespace = io.StringIO(), {}
    code = [text for text in BLOCK.findall(PAGE.read_text()) if not text.startswith("./launch")]
    assert len(code) == 3
    with redirect_stdout(printed):
        for number, text in enumerate(code, 1):
            exec(compile(text, f"{PAGE.name}, block {number}", "exec"), namespace)
    print(printed.getvalue())
    return namespace, printed.getvalue()


def figures(text):
    """The cells of the tables in a text: mean, least and largest value, for each layer and column."""
    rows = [CELL.findall(line) for line in text.splitlines() if CELL.search(line)]
    return np.array(rows, float)


def test_the_page_shows_what_its_code_prints(example):
    _, printed = example
    page = PAGE.read_text()
    assert all(line.strip() in page for line in printed.splitlines()[:2])
    assert figures(printed).shape == figures(page).shape == (6, 6, 3)
    np.testing.assert_allclose(figures(page), figures(printed), atol=SLACK)


def test_the_trained_model_stands_out_from_every_control(example):
    the, disagree, shuffled, random, on_embeddings, noun = (found.mean(1) for found in example[0]["columns"].values())
    best = the.argmax()
    assert 1 <= best <= 4 and the[best] > 0.9 and disagree[best] > 0.9 and noun[0] > 0.97
    assert all((np.abs(control - 0.5) < 0.1).all() for control in (shuffled, random))
    assert all(the[best] > control.max() + 0.25 for control in (shuffled, random, on_embeddings))


def test_before_the_first_layer_the_word_is_all_there_is_and_a_probe_of_it_is_refused(example):
    """The same vector in each sentence."""
    ns = example[0]
    embed = ns["params"]["embed"]
    same = np.broadcast_to(np.asarray(embed["W_E"][ns["batch"].tokens[0, ns["THE"]]]), (len(ns["sentences"]), 384))
    given = ns["Examples"](same[None], ns["first"][None])
    with pytest.raises(InputError, match="the same for all examples at layer 0"):
        ns["everywhere"](ns["lda"].PROBE, given, ns["splits"], ns["lda"].Hypers(0.01), axes={"layer": (0,)})
    assert (np.ptp(ns["batch"].tokens[:, ns["THE"]]) == 0) and (np.ptp(ns["batch"].tokens[:, ns["NOUN"]]) > 0)
