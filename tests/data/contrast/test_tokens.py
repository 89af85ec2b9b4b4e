"""Text pairs become tokens: places find their column, answers are one token where they stand, or the words say what to do."""

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from interp_jax.data.contrast.pairs import check_pairs
from interp_jax.data.contrast.text import TextPair
from interp_jax.data.contrast.tokens import fitting, follow, tokenize, unknown
from interp_jax.data.corpus_io import train_tokenizer
from interp_jax.data.tokenizer_io import Tokenizer, pieces
from interp_jax.data.tokens import unpad
from interp_jax.errors import InputError

MARKED = ["<unk>", "<s>", "▁", "▁he", "▁she", "▁saw", "▁met", "he", "llo", "▁hello", "a", "s", "e", "l", "o", "h"]


def wrapped(backend, **special):
    return Tokenizer(
        **{**dict(backend=backend, file="t.json", bos=None, eos=None, pad=None, prefix=(), suffix=()), **special}
    )


@pytest.fixture(scope="module")
def bytes_():
    """Byte pairs that know " Mary", " Maria", " met", " saw" and "land", but cut "Mary" and " Maryland" in two."""
    text = "then Mary met Maria , then Maria saw Mary ; Finland Poland met " * 9
    return wrapped(train_tokenizer([text], 330))


@pytest.fixture(scope="module")
def words():
    backend = Backend(models.WordLevel({w: i for i, w in enumerate("? he she saw met . a".split())}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrapped(backend)


@pytest.fixture(scope="module")
def marks():
    """Pieces with a mark for the space before a word, a BOS before and an EOS after each text, and an unknown token."""
    backend = Backend(models.Unigram([(p, -1.0 - i / 9) for i, p in enumerate(MARKED)], 0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A <s>", special_tokens=[("<s>", 1)])
    return wrapped(backend, bos=1, eos=1, prefix=(1,), suffix=(1,))


def pair(clean, corrupted, answer=" he", other=" she", **places):
    """A pair whose places are words of the clean text."""
    spans = {name: (clean.index(word), clean.index(word) + len(word)) for name, word in places.items()}
    return TextPair(clean, corrupted, (answer,), (other,), spans)


def seen(tokenizer, pairs, i=0):
    """The text of the clean tokens at each place of an example."""
    row = pieces(tokenizer, pairs.clean[i : i + 1])[0]
    return {name: row[int(columns[i])] for name, columns in pairs.places.items()}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_move_a_place_off_its_word(words, side):
    texts = [
        pair("he saw a .", "she saw a .", WHO="he", HOW="saw"),
        pair("a he met", "a she met", WHO="he", HOW="met"),
    ]
    pairs = tokenize(texts, words, side=side)
    check_pairs(pairs, 7)
    assert unpad(pairs.clean, pairs.positions) == [[1, 3, 6, 5], [6, 1, 4]]
    assert unpad(pairs.corrupted, pairs.positions) == [[2, 3, 6, 5], [6, 2, 4]]
    assert pairs.positions[1].tolist() == ([-1, 0, 1, 2] if side == "left" else [0, 1, 2, -1])
    assert seen(words, pairs) == {"END": " .", "WHO": " he", "HOW": " saw"}
    assert seen(words, pairs, 1) == {"END": " met", "WHO": " he", "HOW": " met"}
    assert pairs.answers.tolist() == [[1], [1]] and pairs.others.tolist() == [[2], [2]]


def test_a_place_is_the_last_token_that_its_span_touches(bytes_):
    clean = "Poland met Maryland, then"
    text = pair(
        clean, "Poland saw Maryland, then", " Mary", " Maria", ALL="Maryland", PART="Mar", LAST="d", TWO="met Mary"
    )
    got = seen(bytes_, tokenize([text], bytes_))
    rest = {"ALL": "land", "PART": " Mary", "LAST": "land", "TWO": " Mary", "END": " then"}
    whole = pieces(bytes_, np.array([bytes_.backend.encode(clean).ids]))[0]
    assert whole[-4:] == [" Mary", "land", ",", " then"]
    assert got == rest


def test_a_place_in_bytes_that_are_no_character_alone(bytes_):
    text = pair("Mary 🐍 met", "Maria 🐍 met", " Mary", " Maria", SNAKE="🐍", HOW="met")
    text = text._replace(clean="then " + text.clean, corrupted="then " + text.corrupted)
    shifted = {name: (a + 5, b + 5) for name, (a, b) in text.places.items()}
    pairs = tokenize([text._replace(places=shifted)], bytes_)
    column = int(pairs.places["SNAKE"][0])
    ids = pairs.clean[0].tolist()
    assert bytes_.backend.decode(ids[: column + 1]).endswith("🐍") and "🐍" not in bytes_.backend.decode(ids[:column])
    assert seen(bytes_, pairs)["HOW"] == " met"


def test_the_end_can_be_given(words):
    assert seen(words, tokenize([pair("he saw a .", "she saw a .", END="saw")], words))["END"] == " saw"


def test_what_comes_before_a_text_is_kept_and_what_comes_after_is_not(marks):
    texts = [pair("he saw", "she saw", WHO="he", HOW="saw")]
    pairs = tokenize(texts, marks)
    assert unpad(pairs.clean, pairs.positions) == [[1, MARKED.index("▁he"), MARKED.index("▁saw")]]
    assert {name: int(column[0]) for name, column in pairs.places.items()} == {"END": 2, "WHO": 1, "HOW": 2}
    without = tokenize(texts, marks, bos=False)
    assert unpad(without.clean, without.positions) == [[MARKED.index("▁he"), MARKED.index("▁saw")]]
    assert int(without.places["WHO"][0]) == 0


def test_an_answer_is_the_token_that_follows_and_not_the_one_that_stands_alone(marks):
    pairs = tokenize([pair("he saw", "she saw", " he", " she"), pair("she saw", "he saw", " she", "he")], marks)
    assert pairs.answers.tolist() == [[MARKED.index("▁he")], [MARKED.index("▁she")]]
    assert pairs.others.tolist() == [[MARKED.index("▁she")], [MARKED.index("he")]]  # the same word without its space
    assert follow(marks, ["he saw", "he s"], [" he", "aw"]) == [[MARKED.index("▁he")], None]


def test_sets_of_answers_may_differ_in_size(words):
    texts = [
        pair("he saw", "she saw"),
        pair("he met", "she met")._replace(answers=(" he", " a"), others=(" she", " .")),
    ]
    pairs = tokenize(texts, words)
    assert pairs.answers.tolist() == [[1, -1], [1, 6]] and pairs.others.tolist() == [[2, -1], [2, 5]]


def test_what_a_tokenizer_does_not_know(words, marks, bytes_):
    assert (unknown(words), unknown(marks), unknown(bytes_)) == (0, 0, None)
    fits = fitting(words)
    assert fits("a", " saw") and not fits("a", " cat") and not fits("a", "saw")
    fits = fitting(bytes_)
    assert fits("a", " Mary") and not fits("a", "Mary") and not fits("a", " Maryland")


@pytest.mark.parametrize(
    ("text", "words_"),
    [
        (
            ("then Mary met", "then Maryland met", " Mary", " Maria"),
            r"pair 0: clean has \d+ tokens and corrupted \d+: \['.*' Mary', ' met'\] against \['.*' Mary', 'land', ' met'\]",
        ),
        (("then Mary met", "then Mary met", " Mary", " Maria"), r"clean and corrupted are the same tokens: \['"),
        (
            ("then Mary met", "then Maria met", " Maryland", " Maria"),
            r"pair 0: the answer ' Maryland' is 2 tokens \[' Mary', 'land'\], and must be one$",
        ),
        (
            ("then Mary met", "then Maria met", " Mary", "Maria"),
            r"the other 'Maria' .*; ' Maria', with a space before it, is one token$",
        ),
        (
            ("then Mary met ", "then Maria met ", "Mary", "Maria"),
            r"the answer 'Mary' changes the tokens of .*'then Mary met ' .*; end the texts without a space and give ' Mary'",
        ),
        (("then Mary met", "then Maria met", "", " Maria"), "pair 0: answers has an empty word"),
        (("then Mary met", "then Maria met", " Mary", " Mary"), "a token is named twice"),
        (("", "then", " Mary", " Maria"), "pair 0: the clean text is empty"),
        (("then", " \n", " Mary", " Maria"), "pair 0: the corrupted text is empty"),
        (("a\ud800", "b", " Mary", " Maria"), "pair 0: has characters that UTF-8 cannot write"),
    ],
)
def test_what_is_not_one_token_or_not_aligned_is_refused(bytes_, text, words_):
    with pytest.raises(InputError, match=words_) as error:
        tokenize([pair(*text)], bytes_)
    assert "\n" not in str(error.value)


def test_refusals_name_the_pair(words):
    sound, known = pair("he saw", "she saw", WHO="he"), pair("he saw", "she saw", " cat", WHO="he")
    with pytest.raises(InputError, match="^line 9: the answer ' cat' is not known to the tokenizer$"):
        tokenize([sound, known], words, labels=["line 8", "line 9"])
    with pytest.raises(InputError, match=r"pair 1: has the places \[\], pair 0 has \['WHO'\]"):
        tokenize([sound, pair("he saw", "she saw")], words)
    with pytest.raises(InputError, match="pair 1: its place 'WHO', characters 2 to 3, has no token in the clean text"):
        tokenize([sound, sound._replace(places={"WHO": (2, 3)})], words)
    with pytest.raises(InputError, match=r"pair 0: others is one string: give a tuple of them, as \(' she',\)"):
        tokenize([sound._replace(others=" she")], words)
    with pytest.raises(InputError, match="no pairs to tokenise"):
        tokenize([], words)
    with pytest.raises(InputError, match="bos = True: t.json has no BOS token"):
        tokenize([sound], words, bos=True)
