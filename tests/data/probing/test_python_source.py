"""What characters of a source are, against masks that are written under it by hand, and against counting."""

from itertools import pairwise

import numpy as np
import pytest

from interp_jax.data.probing.python_source import KINDS, read_characters
from interp_jax.errors import InputError

MARKS = dict(zip(KINDS, ".nk0sco", strict=True))


def kinds(text):
    return "".join(MARKS[KINDS[k]] for k in read_characters(text, "a.py").kind)


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("x = 12  # so\n", "n.o.00..cccc."),
        ("def f(a): return 'b'\n", "kkk.nonoo.kkkkkk.sss."),
        ("'''a\n(b'''\n", "ssssssssss."),
        ("f'{x!r:{w}}' + y\n", "ssssssssssss.o.n."),
        ("é = ü\n", "n.o.n."),
        ("a\r\nb", "n..n"),
    ],
)
def test_kinds(text, mask):
    assert kinds(text) == mask


def test_state_after_each_character():
    text = "if a:\n    b = ('(', [1])  # (\n  \n    c\nd = f'{(x)}'\n"
    of = read_characters(text, "a.py")
    lines = text.splitlines(keepends=True)
    at = np.cumsum([0, *map(len, lines)])
    assert "".join(map(str, of.depth[at[1] : at[2]])) == "00000000" + "11111" + "1" + "2" * 2 + "1" + "0" + "0" * 6
    assert [set(of.indentation[a:b]) for a, b in pairwise(at)] == [{0}, {1}, {1}, {1}, {0}]
    assert of.column.tolist() == [c for line in lines for c in (*range(1, len(line)), 0)]
    quoted = text.index("'('")
    assert of.in_string[quoted - 1 : quoted + 3].tolist() == [False, True, True, False]
    f = text.index("f'")
    assert of.in_string[f:].tolist() == [True] * 7 + [False] * 2
    assert np.flatnonzero(of.in_comment).tolist() == [text.index("# ("), text.index("# (") + 1, text.index("# (") + 2]
    assert [text[i] for i in np.flatnonzero(of.begins)] == ["i", "b", "c", "d"]
    assert [text[i] for i in np.flatnonzero(of.identifier >= 0)] == ["a", "b", "c", "d"]


def test_equal_names_are_one():
    of = read_characters("abc = abc + ab\n", "a.py")
    names = of.identifier[of.identifier >= 0]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("text", ["x = (\n", "x = ?\n", "if a:\n        b\n    c\n", "'''abc\n"])
def test_what_is_no_python_is_named_with_its_line(text):
    with pytest.raises(InputError, match=r"^b\.py, line \d+: "):
        read_characters(text, "b.py")
