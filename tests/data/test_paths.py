"""Paths that people give: what cannot be read is named in one line, with the system's reason."""

import os

import pytest

from interp_jax.data.paths_io import absence, expanded, names_in, read_json, shown
from interp_jax.errors import InputError


def refusal(action, *arguments):
    with pytest.raises(InputError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/model") == tmp_path / "model" and expanded(tmp_path) == tmp_path
    assert refusal(expanded, "~nobody-of-this-name/x") == "~nobody-of-this-name/x: there is no such home directory"
    assert refusal(expanded, "") == "the path is empty"


def test_a_path_is_shown_on_one_line():
    assert shown("/a b/mödel") == "/a b/mödel" and shown("a\nb") == r"'a\nb'" and shown(" ") == "' '"
    assert shown("a\udcff") == r"'a\udcff'" and len(shown("x" * 5000)) < 300


def test_the_reason_is_the_systems(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "stale").symlink_to("blob")
    reasons = {
        "file": "",
        "nothing": "",
        "file/below": "",
        ".": "it is a directory",
        "pipe": "neither a file nor a directory",
        "loop": "too many levels of symbolic links",
        "stale": "a symbolic link to blob, which is missing",
        "x" * 5000: "file name too long",
        "a\0b": "embedded null byte",
    }
    assert {name: absence(f"{tmp_path}/{name}") for name in reasons} == reasons
    assert sorted(names_in(tmp_path)) == ["file", "loop", "pipe", "stale"]
    assert names_in(tmp_path / "nothing") == names_in(tmp_path / "file") == names_in("a\0b") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_may_not_be_read_says_so(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "x.json").chmod(0)
    assert refusal(read_json, tmp_path / "x.json") == f"cannot read {tmp_path / 'x.json'}: permission denied"
    tmp_path.chmod(0)
    assert absence(tmp_path / "x.json") == "permission denied" and names_in(tmp_path) == []
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON: "),
        (b"{'a': 1}", "not JSON: "),
        (b"\xff", "not JSON: "),
        (b"[" * 100_000, "not JSON that can be read: its brackets are nested too deeply"),
        (b"9" * 5000, "not JSON: "),
        (b"null", "expected a JSON object, got NoneType"),
        (b"[]", "expected a JSON object, got list"),
    ],
)
def test_what_is_no_json_object_is_named(tmp_path, content, words):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    assert refusal(read_json, file).startswith(f"{file}: {words}")


def test_a_json_file_that_is_none_is_named(tmp_path):
    assert refusal(read_json, tmp_path) == f"cannot read {tmp_path}: it is a directory"
    assert refusal(read_json, tmp_path / "x") == f"cannot read {tmp_path / 'x'}: no such file or directory"
