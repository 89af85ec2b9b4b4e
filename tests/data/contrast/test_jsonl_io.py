"""A user's JSONL becomes pairs, as text and as ids; every fault is named by file, line and field."""

import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from interp_jax.data.contrast.jsonl_io import read_pairs
from interp_jax.data.contrast.pairs import check_pairs
from interp_jax.data.tokenizer_io import Tokenizer
from interp_jax.data.tokens import unpad
from interp_jax.errors import InputError

WORDS = "? the key keys near door doors is are was were".split()
TEXT = {"clean": "the key near the doors", "corrupted": "the keys near the doors", "answer": " is", "other": " are"}
IDS = {"clean": [1, 2, 4, 1, 6], "corrupted": [1, 3, 4, 1, 6], "answer": 7, "other": 8}


@pytest.fixture(scope="module")
def words():
    backend = Backend(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return Tokenizer(backend, "words.json", None, None, None, (), ())


def written(path, *lines):
    """The file `path`/pairs.jsonl with these lines: objects, or as they are."""
    file = path / "pairs.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return file


def columns(pairs):
    return {name: x.tolist() for name, x in pairs.places.items()}


def test_text_and_ids_give_the_same_pairs(tmp_path, words):
    short = {"clean": "keys", "corrupted": "key", "answer": [" are", " were"], "other": [" is", " was"]}
    texts = [
        TEXT | {"places": {"WHO": "key", "NEAR": "doors"}},
        "",
        short | {"places": {"WHO": [0, 4], "NEAR": [3, 4]}},
    ]
    from_text = read_pairs(written(tmp_path, *texts), words)
    short = {"clean": [3], "corrupted": [2], "answer": [8, 10], "other": [7, 9], "places": {"WHO": 0, "NEAR": [0, 1]}}
    from_ids = read_pairs(str(written(tmp_path, IDS | {"places": {"WHO": 1, "NEAR": [3, 5]}}, short)))
    for pairs in (from_text, from_ids):
        check_pairs(pairs, len(WORDS))
        assert unpad(pairs.clean, pairs.positions) == [[1, 2, 4, 1, 6], [3]]
        assert unpad(pairs.corrupted, pairs.positions) == [[1, 3, 4, 1, 6], [2]]
        assert columns(pairs) == {"END": [4, 4], "WHO": [1, 4], "NEAR": [4, 4]}
        assert pairs.answers.tolist() == [[7, -1], [8, 10]] and pairs.others.tolist() == [[8, -1], [7, 9]]
    right = read_pairs(written(tmp_path, *texts), words, side="right")
    assert columns(right) == {"END": [4, 0], "WHO": [1, 0], "NEAR": [4, 0]}


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_fault(tmp_path, words):
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(TEXT).encode() + b"\r\n" + json.dumps(TEXT).encode() + b"\r\n")
    assert read_pairs(file, words).clean.shape == (2, 5)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", r"not JSON \(Expecting property name .* character 2\): one pair per line"),
        ("[1]", r"is \[1\], and must be an object, as {"),
        ({**TEXT, "anwser": 1}, "unknown field 'anwser': did you mean 'answer'"),
        ({k: v for k, v in TEXT.items() if k != "other"}, "lacks the field 'other': give a pair as {"),
        ({**TEXT, "clean": 5}, "clean is 5, and must be text or a list of token ids"),
        ({**TEXT, "clean": []}, r"clean is \[\], and must be"),
        ({**TEXT, "clean": None}, "clean is null, and must be"),
        ({**IDS, "clean": [1, True]}, r"clean is \[1, true\], and must be"),
        ({**IDS, "clean": [1, -2]}, r"clean is \[1, -2\], and must be"),
        ({**IDS, "clean": [2**31]}, r"clean is \[2147483648\], and must be"),
        ({**TEXT, "corrupted": [1, 2]}, r"corrupted is \[1, 2\], and must be text, as clean is"),
        ({**IDS, "corrupted": "a"}, 'corrupted is "a", and must be a list of token ids, as clean is'),
        ({**TEXT, "answer": 7}, "answer is 7, and must be one word or a list of words, as clean is"),
        ({**TEXT, "other": []}, r"other is \[\], and must be one word"),
        ({**TEXT, "other": ["", " is"]}, r'other is \["", " is"\], and must be one word'),
        ({**IDS, "answer": " is"}, 'answer is " is", and must be one token id or a list of them'),
        ({**TEXT, "answer": "is"}, "the answer 'is' .*; ' is', with a space before it, is one token"),
        ({**TEXT, "answer": " cat"}, "the answer ' cat' is not known to the tokenizer"),
        ({**TEXT, "other": " is"}, "a token is named twice"),
        (
            {**TEXT, "corrupted": "the keys"},
            r"clean has 5 tokens and corrupted 2: \[' the', ' key', .*\] against \[' the', ' keys'\]",
        ),
        ({**IDS, "corrupted": [1, 2]}, r"clean has 5 tokens and corrupted 2: \[1, 2, 4, 1, 6\] against \[1, 2\]"),
        ({**TEXT, "corrupted": TEXT["clean"]}, "clean and corrupted are the same tokens"),
        ({**TEXT, "places": ["WHO"]}, r'places is \["WHO"\], and must be an object of names and places'),
        (
            {**TEXT, "places": {"WHO": "the"}},
            r"places: 'WHO' is 'the', .* has 2 times: give its characters, as \[13, 16\]",
        ),
        ({**TEXT, "places": {"WHO": "door"}}, "places: 'WHO' is 'door', which the clean text has nowhere"),
        ({**TEXT, "places": {"WHO": [4, 23]}}, r"places: 'WHO' is \[4, 23\], and must be a word or characters .* 22"),
        ({**TEXT, "places": {"WHO": [4, 4]}}, r"places: 'WHO' is \[4, 4\], and must be"),
        ({**TEXT, "places": {"WHO": 4}}, "places: 'WHO' is 4, and must be a word or"),
        ({**TEXT, "places": {"WHO": [3, 4]}}, "its place 'WHO', characters 3 to 4, has no token in the clean text"),
        (
            {**IDS, "places": {"WHO": 5}},
            r"places: 'WHO' is 5, and must be an index or \[start, end\) among the 5 tokens",
        ),
        ({**IDS, "places": {"WHO": [2, 6]}}, r"places: 'WHO' is \[2, 6\], and must be an index"),
        ({**IDS, "places": {"WHO": "key"}}, "places: 'WHO' is \"key\", and must be an index"),
        ({**TEXT, "clean": "\ud800"}, "has characters that UTF-8 cannot write"),
    ],
)
def test_each_fault_is_named(tmp_path, words, line, fault):
    sound = IDS if isinstance(line, dict) and isinstance(line.get("corrupted"), list) else TEXT
    sound = sound | {"places": {name: [0, 1] for name in line.get("places", {})}} if isinstance(line, dict) else sound
    with pytest.raises(InputError, match=fault) as error:
        read_pairs(written(tmp_path, sound, "", line), words)
    assert str(error.value).startswith(f"{tmp_path}/pairs.jsonl, line 3: ") and "\n" not in str(error.value)


def test_lines_must_be_of_one_kind(tmp_path, words):
    with pytest.raises(InputError, match=r'line 2: clean is \[1, 2, 4, 1, 6\], in .*line 1 "the key near the doors"'):
        read_pairs(written(tmp_path, TEXT, IDS), words)
    with pytest.raises(InputError, match=r"line 2: places: 'WHO' is in this line or in .*line 1, and must be in both"):
        read_pairs(written(tmp_path, TEXT, TEXT | {"places": {"WHO": "key"}}), words)


def test_a_file_that_cannot_be_read_is_named(tmp_path, words):
    with pytest.raises(InputError, match="none.jsonl: cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="pairs.jsonl: holds no pair: one JSON object per line"):
        read_pairs(written(tmp_path, "", " "), words)
    with pytest.raises(InputError, match=r"line 1: clean is text: give a tokenizer, or token ids, as {"):
        read_pairs(written(tmp_path, TEXT))
    (tmp_path / "pairs.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="pairs.jsonl: not text"):
        read_pairs(tmp_path / "pairs.jsonl")
