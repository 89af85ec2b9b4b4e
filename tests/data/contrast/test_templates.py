"""Every template's pairs are aligned, differ where they say, and have the answers that they claim; pools fit the tokenizer."""

import re
from string import Formatter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from interp_jax.data.contrast.ioi import FRAMES
from interp_jax.data.contrast.pairs import check_pairs
from interp_jax.data.contrast.templates import TEMPLATES, template_names, template_pairs, text_pairs, usable
from interp_jax.data.contrast.text import after, contrast, fill, parts
from interp_jax.data.corpus_io import train_tokenizer
from interp_jax.data.tokenizer_io import Tokenizer
from interp_jax.data.tokens import last_rows, unpad
from interp_jax.errors import InputError

CHANGED = {
    ("ioi", "ABC"): {"IO", "S1", "S2"},
    ("ioi", "flipped"): {"S2"},
    ("greater_than", "01"): {"YY"},
    ("docstring", "answer"): {"C_def"},
    ("docstring", "doc"): {"A_doc", "B_doc"},
    ("agreement", "number"): {"subject"},
    ("pronoun", "gender"): {"name"},
}
TEXTS = [name for name in template_names() if TEMPLATES[name].frames]


def tokenizer_of(backend, prefix=()):
    return Tokenizer(backend, "words.json", prefix[0] if prefix else None, None, None, prefix, ())


def all_words():
    """Every word of every template, as a text."""
    pools = [entry for name in TEXTS for pool in TEMPLATES[name].pools.values() for entry in pool]
    frames = [re.sub(r"{\w+}", " ", frame) for name in TEXTS for frame in TEMPLATES[name].frames]
    return " ".join([*frames, *(word for entry in pools for word in parts(entry))])


def words_backend(words, split=r"\d\d"):
    """One token per word of a text, and per pair of digits."""
    cut = pre_tokenizers.Split(Regex(split), "isolated")
    cutter = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), cut])
    vocabulary = dict.fromkeys(["[UNK]", *(word for word, _ in cutter.pre_tokenize_str(words))])
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.pre_tokenizer = cutter
    return backend


@pytest.fixture(scope="module")
def words():
    return tokenizer_of(words_backend(all_words()))


def drawn(name, corruption, tokenizer, n=40, **options):
    """The same pairs as text and as tokens."""
    options = {"corruption": corruption, "tokenizer": tokenizer, **options}
    return list(text_pairs(name, 3, n, **options)), template_pairs(name, 3, n, **options)


def test_the_table_is_what_the_tests_cover():
    assert template_names() == ["ioi", "greater_than", "docstring", "agreement", "pronoun", "induction"]
    assert {(name, c) for name in TEXTS for c in TEMPLATES[name].corruptions} == set(CHANGED)


@pytest.mark.parametrize("name", TEXTS)
def test_frames_have_the_same_blanks_and_pools_no_word_twice(name):
    template = TEMPLATES[name]
    blanks = [{blank for _, blank, _, _ in Formatter().parse(frame) if blank} for frame in template.frames]
    assert all(b == blanks[0] for b in blanks)
    for pool in template.pools.values():
        assert len(set(pool)) == len(pool)
    assert len(set(template.frames)) == len(template.frames)


@pytest.mark.parametrize(("name", "corruption"), CHANGED)
def test_sides_differ_at_the_corrupted_places_and_nowhere_else(words, name, corruption):
    texts, pairs = drawn(name, corruption, words)
    check_pairs(pairs, words.d_vocab)
    differ = np.asarray(pairs.clean) != np.asarray(pairs.corrupted)
    for i, row in enumerate(differ):
        assert set(np.flatnonzero(row)) == {int(pairs.places[place][i]) for place in CHANGED[name, corruption]}
        assert texts[i].clean != texts[i].corrupted
    assert not any(0 in row for row in unpad(pairs.clean, pairs.positions))  # every word is known


@pytest.mark.parametrize(("name", "corruption"), CHANGED)
def test_places_hold_their_word(words, name, corruption):
    texts, pairs = drawn(name, corruption, words)
    assert set(pairs.places) == {"END", *texts[0].places}
    clean, vocabulary = np.asarray(pairs.clean), words.backend.get_vocab()
    for i, text in enumerate(texts):
        for place, (start, end) in text.places.items():
            word = text.clean[start:].split()[0] if place == "S1+1" else text.clean[start:end].split()[-1]
            assert clean[i, pairs.places[place][i]] == vocabulary[word]
    np.testing.assert_array_equal(pairs.places["END"], last_rows(jnp.broadcast_to(pairs.positions, clean.shape)))


@pytest.mark.parametrize(("name", "corruption"), CHANGED)
def test_answers_are_tokens_of_their_words(words, name, corruption):
    texts, pairs = drawn(name, corruption, words)
    vocabulary = words.backend.get_vocab()
    for i, text in enumerate(texts):
        for side, tokens in ((text.answers, pairs.answers[i]), (text.others, pairs.others[i])):
            assert [vocabulary[word.strip()] for word in side] == [t for t in tokens.tolist() if t != -1]


@pytest.mark.parametrize(("name", "corruption"), CHANGED)
def test_draws_depend_on_the_seed_and_the_example_alone(words, name, corruption):
    def draw(seed, n):
        return list(text_pairs(name, seed, n, corruption=corruption, tokenizer=words))

    assert draw(0, 30) == draw(0, 30) and draw(0, 40)[:30] == draw(0, 30)
    assert sum(a != b for a, b in zip(draw(0, 30), draw(1, 30), strict=True)) > 20
    assert len({text.clean for text in draw(0, 30)}) > 20
    assert draw(0, 30) == list(text_pairs(name, 0, 30, corruption=corruption))  # this tokenizer leaves out nothing


@pytest.mark.parametrize("name", ["ioi", "docstring"])
def test_corruptions_share_their_clean_prompts(name):
    one, other = ([t.clean for t in text_pairs(name, 0, 20, corruption=c)] for c in TEMPLATES[name].corruptions)
    assert one == other


@pytest.mark.parametrize("name", TEXTS)
def test_with_one_frame_a_column_means_the_same_everywhere(words, name):
    frames = TEMPLATES[name].frames
    texts, pairs = drawn(name, None, words, frame=len(frames) - 1)
    assert pairs.positions.shape == (1, pairs.clean.shape[1])
    assert all(len(set(np.asarray(columns).tolist())) == 1 for columns in pairs.places.values())
    shapes = [re.sub(r"{\w+}", r".+", re.escape(f).replace(r"\{", "{").replace(r"\}", "}")) for f in frames]
    assert all(re.fullmatch(shapes[-1], text.clean) for text in texts)
    every = [text.clean for text in text_pairs(name, 3, 200)]
    assert all(any(re.fullmatch(shape, text) for text in every) for shape in shapes)


def test_ioi_repeats_the_subject_and_asks_for_the_other(words):
    orders = set()
    for corruption in ("ABC", "flipped"):
        for text in drawn("ioi", corruption, words)[0]:
            said = {name: text.clean[slice(*span)] for name, span in text.places.items()}
            assert text.answers == (f" {said['IO']}",) and text.others == (f" {said['S1']}",)
            assert said["S1"] == said["S2"] != said["IO"]
            names = [w for w in re.findall(r"\w+", text.corrupted) if w in TEMPLATES["ioi"].pools["name"]]
            if corruption == "ABC":
                assert len(names) == len({*names, said["IO"], said["S1"]}) - 2 == 3
            else:
                assert names.count(said["IO"]) == 2 and names.count(said["S1"]) == 1 and names[2] == said["IO"]
            io_first = text.places["IO"] < text.places["S1"]
            next_word = text.clean[text.places["S1"][1] :].split()[0]
            assert (next_word == "and") is not io_first
            assert text.clean[slice(*text.places["S1+1"])] == next_word[0]
            assert text.places["S1"] < text.places["S2"]
            orders.add("ABBA" if io_first else "BABA")
    assert orders == {"ABBA", "BABA"} and len(TEMPLATES["ioi"].frames) == 2 * len(FRAMES)


def test_greater_than_splits_all_years_at_the_given_one(words):
    texts, pairs = drawn("greater_than", "01", words)
    years = set()
    for text, answers, others in zip(texts, pairs.answers, pairs.others, strict=True):
        said = {name: text.clean[slice(*span)] for name, span in text.places.items()}
        assert said["XX1"] == said["XX2"] == text.clean[-2:] and "01" < said["YY"] < "99"
        assert list(text.answers) == [f"{y:02d}" for y in range(int(said["YY"]) + 1, 100)]
        assert list(text.others) == [f"{y:02d}" for y in range(int(said["YY"]) + 1)]
        assert (answers != -1).sum() + (others != -1).sum() == 100
        assert text.corrupted == text.clean.replace(said["XX1"] + said["YY"], said["XX1"] + "01")
        years.add(said["YY"])
    assert len(years) > 20


def test_docstring_asks_for_the_third_parameter(words):
    for corruption in ("answer", "doc"):
        for text in drawn("docstring", corruption, words)[0]:
            (answer,) = (word.strip() for word in text.answers)
            clean, corrupted = (re.findall(r"\w+", side.split("(self, ")[1].split(")")[0]) for side in text[:2])
            documented, instead = (re.findall(r":param (\w+)", side) for side in text[:2])
            assert documented == clean[:2] and clean[2] == answer and len({*clean, *corrupted, *instead}) <= 6
            if corruption == "answer":
                assert text.others == (f" {corrupted[2]}",) and corrupted[2] not in clean and instead == documented
            else:
                assert [f" {p}" for p in (clean[0], clean[1], clean[3])] == list(text.others)
                assert corrupted == clean and not {*instead} & {*clean} and len({*instead}) == 2


def test_verbs_and_pronouns_agree():
    plural = dict(TEMPLATES["agreement"].pools["noun"])
    verbs, attractors, singular = set(), set(), {"is": "are", "was": "were", "has": "have"}
    for text in text_pairs("agreement", 0, 80):
        subject, other = (word_at(text.places["subject"], side) for side in text[:2])
        is_singular = subject in plural
        assert plural[subject] == other if is_singular else plural[other] == subject
        answer, instead = text.answers[0].strip(), text.others[0].strip()
        assert singular[answer] == instead if is_singular else singular[instead] == answer
        verbs.add(answer)
        attractors.add((is_singular, text.clean.split()[-1] in plural))
    assert len(verbs) == 6 and len(attractors) == 4
    female = dict(TEMPLATES["pronoun"].pools["name"])
    for text in text_pairs("pronoun", 0, 80):
        before, instead = (word_at(text.places["name"], side) for side in text[:2])
        assert (before in female) is not (instead in female)
        assert (text.answers, text.others) == (((" she",), (" he",)) if before in female else ((" he",), (" she",)))


def word_at(span, side):
    """The word of a side that begins where the place does on the clean one."""
    return re.match(r"\w+", side[span[0] :]).group()


def test_a_frame_says_where_its_blanks_lie():
    text, spans = fill("{A} met {B}, and {C}", {"A": "Ann", "B": "Bo", "C": "Cy"})
    assert text == "Ann met Bo, and Cy" and spans == {"A": (0, 3), "B": (8, 10), "C": (16, 18)}
    assert after(text, spans["A"]) == (4, 5) and after(text, spans["B"]) == (10, 11)
    pair = contrast("{A} met {B}", {"A": "Ann", "B": "Bo"}, {"A": "Joe"}, [" x"], [" y"])
    assert pair[:4] == ("Ann met Bo", "Joe met Bo", (" x",), (" y",))


def test_words_that_a_tokenizer_cuts_or_does_not_know_are_left_out():
    names = TEMPLATES["ioi"].pools["name"]
    text = " ".join(all_words().split()).replace(" Mary ", " ").replace(" Kate ", " ")
    known = usable("ioi", "ABC", tokenizer_of(words_backend(text)))["name"]
    assert set(known) == set(names) - {"Mary", "Kate"}
    few = ["Mary", "John", "Anna", "Tom", "Paul"]
    corpus = [f"the {name} and {name} came to the {name}" for name in few] * 9
    merged = tokenizer_of(train_tokenizer(corpus, 400))
    assert [n for n in few if len(merged.backend.encode(f" {n}").ids) == 1] == few  # or the test says nothing
    assert len(merged.backend.encode(" Kate").ids) > 1
    with pytest.raises(InputError) as error:
        usable("ioi", "ABC", merged)
    assert str(error.value) == (
        "template 'ioi': words.json has single tokens for 0 of the 14 entries of 'location' (none), and 'ABC' needs 2"
    )


def test_as_many_words_are_needed_as_the_corruption_uses():
    keep = {"Mary", "John", "Anna"}
    text = " ".join(w for w in all_words().split() if w not in TEMPLATES["ioi"].pools["name"] or w in keep)
    tokenizer = tokenizer_of(words_backend(text))
    check_pairs(template_pairs("ioi", 0, 30, corruption="flipped", tokenizer=tokenizer), tokenizer.d_vocab)
    with pytest.raises(InputError, match=r"for 3 of the 36 entries of 'name' \(Mary, John, Anna\), and 'ABC' needs 5"):
        template_pairs("ioi", 0, 30, tokenizer=tokenizer)


def test_years_that_are_one_token_are_left_out_of_the_answers():
    split = r"1776|1801|\d\d"
    tokenizer = tokenizer_of(words_backend(f"{all_words()} 1776 1801", split))
    pool = {century: years for century, *years in usable("greater_than", "01", tokenizer)["century"]}
    assert "18" not in pool and "76" not in pool["17"] and "76" in pool["16"] and len(pool["17"]) == 99
    texts, pairs = drawn("greater_than", None, tokenizer, n=200)
    check_pairs(pairs, tokenizer.d_vocab)
    assert any(t.clean.endswith("17") for t in texts)
    assert all(("76" in t.answers + t.others) is not t.clean.endswith("17") for t in texts)


@pytest.mark.parametrize("kind", ["single digits", "one number", "one missing"])
def test_greater_than_needs_pairs_of_digits(kind):
    cuts = {"single digits": r"\d", "one number": r"\d{4}|\d\d", "one missing": r"\d\d"}
    extra = {"single digits": "", "one number": " 1732", "one missing": ""}
    text = re.sub(r"\b37\b", "", all_words()) if kind == "one missing" else all_words() + extra[kind]
    with pytest.raises(InputError, match=r"no single token for \d+ of the 99 pairs of digits 01 to 99") as error:
        template_pairs("greater_than", 0, 5, tokenizer=tokenizer_of(words_backend(text, cuts[kind])))
    first = "37" if kind == "one missing" else "01"
    assert f"({first!r} the first)" in str(error.value) and "\n" not in str(error.value)


def test_induction_needs_no_tokenizer_and_takes_its_bos_if_asked():
    pairs = template_pairs("induction", 0, 10, d_vocab=40, length=12)
    check_pairs(pairs, 40)
    backend = words_backend("a b c")
    bos = template_pairs("induction", 0, 10, d_vocab=40, length=12, bos=True, tokenizer=tokenizer_of(backend, (2,)))
    assert pairs.clean.shape == bos.clean.shape == (10, 12) and (bos.clean[:, 0] == 2).all()
    jax.tree.map(
        np.testing.assert_array_equal,
        pairs,
        template_pairs("induction", 0, 10, corruption="key", d_vocab=40, length=12),
    )


def test_a_bos_moves_every_place(words):
    bos = tokenizer_of(words.backend, (0,))
    plain, shifted = (template_pairs("ioi", 0, 20, tokenizer=t, frame=0) for t in (words, bos))
    np.testing.assert_array_equal(shifted.clean[:, 1:], plain.clean)
    assert (shifted.clean[:, 0] == 0).all()
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a + 1, b), plain.places, shifted.places)
    without = template_pairs("ioi", 0, 20, tokenizer=bos, frame=0, bos=False)
    jax.tree.map(np.testing.assert_array_equal, without, plain)


@pytest.mark.parametrize(
    ("name", "options", "words_"),
    [
        ("ioii", {}, "template 'ioii': did you mean 'ioi'"),
        ("greater-than", {}, "did you mean 'greater_than'"),
        ("ioi", {"corruption": "ABBA"}, "template 'ioi' has no corruption 'ABBA': did you mean 'ABC'"),
        ("ioi", {"frame": 12}, "frame = 12: template 'ioi' has frames 0 to 11"),
        ("ioi", {"n": 0}, "n = 0: must be at least 1"),
        (
            "ioi",
            {"tokenizer": None},
            "template 'ioi' is text: give a tokenizer, or choose 'induction', which needs none",
        ),
        ("induction", {}, "template 'induction' draws tokens: give d_vocab"),
        ("induction", {"d_vocab": 9, "corruption": "x"}, "has no corruption 'x': known: key, successor"),
    ],
)
def test_requests_that_make_no_sense_are_refused(words, name, options, words_):
    with pytest.raises(InputError, match=words_) as error:
        template_pairs(name, 0, **{"n": 4, "tokenizer": words, **options})
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="template 'induction' has no text, only tokens"):
        text_pairs("induction", 0, 4)


def test_words_are_drawn_from_whole_pools(words):
    texts, pools = list(text_pairs("ioi", 0, 400, tokenizer=words)), TEMPLATES["ioi"].pools
    for place, pool in {"IO": "name", "S1": "name", "gift": "gift", "location": "location"}.items():
        assert {text.clean[slice(*text.places[place])] for text in texts} == set(pools[pool])
