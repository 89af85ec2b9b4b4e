"""A person's examples: what a line means, and what is refused, in one line that names it."""

import json
import math

import numpy as np
import pytest

from interp_jax.data import tokenizer_io
from interp_jax.data.corpus_io import train_tokenizer
from interp_jax.data.probing.spans_jsonl_io import read_examples
from interp_jax.data.probing.variables import known
from interp_jax.errors import InputError

TEXTS = ["the dogs near the cat ran", "the dog near the cats ran"]


@pytest.fixture(scope="module")
def tokenizer():
    words = train_tokenizer([" ".join(TEXTS)] * 50, 300)
    return tokenizer_io.Tokenizer(words, "words", None, 0, None, (0,), ())


@pytest.fixture
def read(tokenizer, tmp_path):
    def from_lines(*lines, positions=64):
        path = tmp_path / "x.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return read_examples(path, tokenizer, positions)

    return from_lines


def line(i=0, **changes):
    return {"text": TEXTS[i], "span": [4, 8 - i], "label": ("many", "one")[i], **changes}


def test_labels_stand_at_the_last_token_of_the_span(read, tokenizer):
    data = read(line(0), "", line(1), line(0, span="cat", label="one", group="mine"))
    assert data.variables["label"].values == ("many", "one") and data.names == (*TEXTS, "mine")
    for i, (label, before) in enumerate([(0, "the dogs"), (1, "the dog"), (1, "the dogs near the cat")]):
        (at,) = np.flatnonzero(data.labels["label"][i] >= 0)
        assert data.labels["label"][i, at] == label and data.tokens[i, 0] == 0
        assert tokenizer.backend.decode(data.tokens[i, 1 : at + 1].tolist()) == before
    assert (data.positions >= 0).sum(1).tolist() == [
        1 + len(tokenizer.backend.encode(t).ids) for t in (*TEXTS, TEXTS[0])
    ]


def test_integers_and_truths_are_classes(read):
    assert read(line(0, label=10), line(1, label=9)).variables["label"].values == ("9", "10")
    assert read(line(0, label=True), line(1, label=False)).variables["label"].values == ("false", "true")


def test_numbers_are_numbers(read):
    data = read(line(0, label=1.5), line(1, label=-2), line(0, label=0.25))
    assert data.variables["label"].is_number and known(data.labels["label"]).sum() == 3
    assert data.labels["label"][known(data.labels["label"])].tolist() == [1.5, -2.0, 0.25]
    with pytest.raises(InputError, match="all 2 labels are 1.5: there is nothing to tell"):
        read(line(0, label=1.5), line(1, label=1.5))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", r"line 2: not JSON \("),
        ("[]", r"line 2: is \[\], and must be an object"),
        (line(1, labels=1), "line 2: unknown field 'labels': did you mean 'label'"),
        ({"text": "a", "label": "b"}, "line 2: lacks the field 'span'"),
        (line(1, text=" "), r'line 2: text is " ", and must be'),
        (line(1, label=[]), r"line 2: label is \[\], and must be a word, a number"),
        (line(1, label=math.nan), r"line 2: label is NaN, and must be a word, a number"),
        (line(1, label=1.5), 'line 1: label is "many", and must be a number, as .*, line 2 has 1.5'),
        (line(1, label=1), 'line 2: label is 1, and must be of the kind that .*, line 1 has, "many"'),
        (line(1, group=3), "line 2: group is 3"),
        (line(1, span="the"), r"line 2: span is 'the', which the text has 2 times: give its characters, as \[13, 16\]"),
        (line(1, span="cow"), "line 2: span is 'cow', which the text has nowhere"),
        (line(1, span=[4, 99]), r"line 2: span is \[4, 99\], and must be a word or characters \[start, end\) of the text's 25"),
        (line(1, span=[True, 4]), r"line 2: span is \[true, 4\]"),
        (line(1, span=[3, 4]), r"line 2: span \[3, 4\] is nothing but blanks"),
        (line(1, span=[5, 7]), r"line 2: span \[5, 7\) 'og' cuts the token ' dog', which is characters \[3, 7\)"),
        (line(1, span=[4, 6]), r"line 2: span \[4, 6\) 'do' cuts the token ' dog'"),
        (line(1, label="many"), "all 2 labels are 'many': a probe needs at least two classes"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(read, bad, message):
    with pytest.raises(InputError, match=message):
        read(line(0), bad)


def test_files_that_cannot_be(read, tokenizer, tmp_path):
    with pytest.raises(InputError, match="holds no example: one JSON object per line"):
        read("", " ")
    with pytest.raises(InputError, match="line 1: the text has 7 tokens, more than the model's 6 positions"):
        read(line(0), line(1), positions=6)
    with pytest.raises(InputError, match="cannot be read"):
        read_examples(tmp_path / "nowhere.jsonl", tokenizer, 9)
    (tmp_path / "latin.jsonl").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not text"):
        read_examples(tmp_path / "latin.jsonl", tokenizer, 9)
