"""Labels of a stream: those of its documents in order, none at their ends or of prose, names told apart by document."""

import numpy as np

from interp_jax.data.probing.labelled_stream import REPEATS, in_windows, label_stream
from interp_jax.data.probing.source_labels import VARIABLES, Tokenised, label_tokens

CODE = ("a = f(a)  # once\nb = 'two'\n", "def f(a):\n    return [a]\n")
PROSE = "Names in a row are what the tokenizer takes this for\n"


def by_characters(name, text):
    return Tokenised(name, text, list(range(len(text))), [(i, i + 1) for i in range(len(text))])


def test_labels_are_those_of_the_documents_and_ends_and_prose_have_none():
    documents = [by_characters(str(i), text) for i, text in enumerate((CODE[0], PROSE, CODE[1]))]
    stream = label_stream(documents, ends=1)
    assert stream.documents == (2, 3) and "column" not in stream.variables and REPEATS in stream.variables
    first, last = len(CODE[0]), len(CODE[0]) + len(PROSE) + 2
    for name, labels in stream.labels.items():
        np.testing.assert_array_equal(labels[:first], label_tokens(documents[0]).labels[name])
        np.testing.assert_array_equal(labels[last:-1], label_tokens(documents[2]).labels[name])
        assert (labels[first:last] == -1).all() and labels[-1] == -1
    assert len(stream.identifier) == sum(len(d.text) + 1 for d in documents)


def test_names_repeat_within_a_window_of_the_stream():
    documents = [by_characters(str(i), text) for i, text in enumerate(CODE)]
    stream = label_stream(documents, ends=1)
    whole = in_windows(stream, np.arange(len(stream.identifier))[None])
    text = CODE[0] + "\0" + CODE[1] + "\0"
    repeats = whole[list(stream.variables).index(REPEATS)][0]
    told = [(text[i], int(repeats[i])) for i in np.flatnonzero(repeats >= 0)]
    assert told == [("a", 0), ("f", 0), ("a", 1), ("b", 0), ("f", 0), ("a", 0), ("a", 1)]  # names of two files differ
    later = in_windows(stream, np.arange(8, 20)[None])
    at = list(VARIABLES).index("in comment")
    np.testing.assert_array_equal(later[at], whole[at][:, 8:20])


def test_a_text_without_python_has_no_labels():
    stream = label_stream([by_characters("a", PROSE), Tokenised("empty", "", [], [])], ends=0)
    assert stream.documents == (0, 2) and all((x == -1).all() for x in stream.labels.values())
