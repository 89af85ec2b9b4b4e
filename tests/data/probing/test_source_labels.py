"""Labels of a model's tokens, against ones written by hand; windows begin at statements and never overlap."""

import re

import numpy as np
import pytest

from interp_jax.data.corpus_io import train_tokenizer
from interp_jax.data.probing.source_labels import COLUMNS, VARIABLES, Tokenised, label_tokens, repeats, windows_of
from interp_jax.data.probing.variables import binned, chosen, counts, repeated_groups
from interp_jax.errors import InputError


def by_word(name, text):
    """A token for each word, with the blanks before it, and the last line's end."""
    spans = [m.span() for m in re.finditer(r"\s*\w+|\s*[^\w\s]|\n$", text)]
    words = [text[a:b] for a, b in spans]
    return Tokenised(name, text, [hash(w) % 1000 for w in words], spans), words


def test_labels_of_words():
    document, words = by_word("a.py", "if x:\n    foo(x, 'a b')  # no\nfoo\n")
    of = label_tokens(document)
    told = [
        # word, depth, indentation, in string, in comment, next class
        ("if", "0", "0", "no", "no", "name"),
        (" x", "0", "0", "no", "no", "operator"),
        (":", "0", "0", "no", "no", "name"),
        ("\n    foo", "0", "1", "no", "no", "operator"),
        ("(", "1", "1", "no", "no", "name"),
        ("x", "1", "1", "no", "no", "operator"),
        (",", "1", "1", "no", "no", "string"),
        (" '", "1", "1", "yes", "no", "string"),
        ("a", "1", "1", "yes", "no", "string"),
        (" b", "1", "1", "yes", "no", "string"),
        ("'", "1", "1", "no", "no", "operator"),
        (")", "0", "1", "no", "no", "comment"),
        ("  #", "0", "1", "no", "yes", "comment"),
        (" no", "0", "1", "no", "yes", "name"),
        ("\nfoo", "0", "0", "no", "no", "blank"),
        ("\n", "0", "0", "no", "no", None),
    ]
    asked = ("bracket depth", "indentation", "in string", "in comment", "next class")
    for i, (word, *values) in enumerate(told):
        found = [VARIABLES[v].values[of.labels[v][i]] if of.labels[v][i] >= 0 else None for v in asked]
        assert (words[i], found) == (word, values)
    assert of.labels["place in line"].tolist() == [0] * 4 + [1] * 8 + [2, 2, 0, 0]
    assert of.labels["open brackets"].tolist() == [
        float(depth) for _, depth, *_ in told
    ]  # 2 and more are one class, there
    np.testing.assert_array_equal(binned(of.labels["column"].astype(int), COLUMNS), of.labels["place in line"])
    assert np.flatnonzero(of.begins).tolist() == [0, 3, 14]


def test_repeats_are_within_a_window():
    np.testing.assert_array_equal(
        repeats(np.array([[3, -1, 3, 5, 3], [5, 5, -1, 7, -1]])), [[0, -1, 1, 0, 1], [0, 1, -1, 0, -1]]
    )


def test_windows_begin_at_statements_and_do_not_overlap():
    texts = {f"{i}.py": f"a{i} = [1,\n  2]\nbb = (a{i}, 3)\n" * 6 for i in range(3)} | {"bad.py": "x = (\n" * 9}
    tokenizer = train_tokenizer(list(texts.values()), 270)
    documents = []
    for name, text in texts.items():
        e = tokenizer.encode(text, add_special_tokens=False)
        documents.append(Tokenised(name, text, e.ids, e.offsets))
    data = windows_of(documents, 1000, 16, "texts")
    assert data.names == ("0.py", "1.py", "2.py") and len(data.left_out) == 1 and "bad.py, line" in data.left_out[0]
    for group in range(3):
        rows = data.tokens[data.group == group]
        assert len(rows) > 1 and all(tokenizer.decode(row[:2]).lstrip()[0] in "ab" for row in rows)
        ids, at = documents[group].ids, 0
        for row in rows:
            found = next(i for i in range(at, len(ids)) if ids[i : i + 16] == row.tolist())
            at = found + 16
    few = windows_of(documents, 3, 16, "texts")
    assert len(few.tokens) == 3
    assert counts(few.labels["bracket depth"], few.variables["bracket depth"]).sum() == 48
    assert list(chosen(few, ("indentation",)).labels) == ["indentation"]
    with pytest.raises(InputError, match="texts has no variable 'indention': did you mean 'indentation'"):
        chosen(few, ("indention",))
    with pytest.raises(InputError, match="texts: none of its 4 documents has 4000 tokens of Python, such as bad.py"):
        windows_of(documents, 3, 4000, "texts")


def test_the_same_window_in_two_documents_is_counted():
    text = "a = [1]\n" * 8
    tokenizer = train_tokenizer([text], 258)
    e = tokenizer.encode(text, add_special_tokens=False)
    data = windows_of([Tokenised(name, text, e.ids, e.offsets) for name in ("a", "b")], 100, 8, "x")
    assert repeated_groups(data) == {"a": len(data.tokens) // 2, "b": len(data.tokens) // 2}


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 1), (2, 7)], r"c.py: its tokens end at character 7 of 9"),
        ([(0, 1), (5, 9)], r"c.py: token 1 is characters \[5, 9\), the one before ends at 1: its span does not align"),
        ([(0, 4), (2, 9)], r"c.py: token 1 is characters \[2, 9\), the one before ends at 4"),
    ],
)
def test_spans_that_do_not_align_are_named(spans, message):
    with pytest.raises(InputError, match=message):
        label_tokens(Tokenised("c.py", "a = b + c", [1] * len(spans), spans))
