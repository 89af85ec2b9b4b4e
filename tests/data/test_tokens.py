"""Padding and positions; tokenizers as they are published, with and without special tokens; every error's words."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from interp_jax.data.corpus_io import train_tokenizer
from interp_jax.data.tokenizer_io import check_vocabulary, decode, encode, load_tokenizer, pieces
from interp_jax.data.tokens import last_rows, pad, positions_of, unpad
from interp_jax.errors import InputError

TEXTS = ["The cat sat on the mat.", "ünïcödé \U0001f40d", "a"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sing", "##ing", "##s", "."]
PIECES = ["<unk>", "<s>", "</s>", "▁", "▁he", "llo", "▁hello", "▁world", "!", "<0xC3>", "<0xBC>"]


def save(directory, backend, **beside):
    """`backend` as tokenizer.json in `directory`, and JSON files beside it."""
    directory.mkdir(exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    for name, content in beside.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def bytes_backend(template=None):
    """Byte-level byte pairs, as GPT-2 has them; <|endoftext|> is 0."""
    backend = train_tokenizer(["the cat sat on the mat, the dog sang"] * 3, 270)
    if template:
        template = processors.TemplateProcessing(single=template, special_tokens=[("<|endoftext|>", 0)])
        backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return backend


def words_backend(processor=None):
    """WordPiece with [CLS] = 2 and [SEP] = 3 around a text, as BERT has it."""
    backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(WORDS[:4])
    backend.post_processor = processor or processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return backend


def spaces_backend():
    """Pieces that begin with a mark for a space, and a BOS before every text, as Llama has them."""
    backend = Tokenizer(models.Unigram([(p, -1.0 - i / 9) for i, p in enumerate(PIECES)], 0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    fused = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(fused)
    backend.add_special_tokens(PIECES[:3])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend


@pytest.fixture
def gpt(tmp_path):
    return load_tokenizer(save(tmp_path / "gpt", bytes_backend(), tokenizer_config={"bos_token": "<|endoftext|>"}))


@pytest.fixture
def bert(tmp_path):
    return load_tokenizer(save(tmp_path / "bert", words_backend(), special_tokens_map={"pad_token": "[PAD]"}))


@pytest.fixture
def llama(tmp_path):
    names = {"bos_token": {"content": "<s>", "__type": "AddedToken"}, "eos_token": "</s>", "pad_token": None}
    return load_tokenizer(save(tmp_path / "llama", spaces_backend(), tokenizer_config=names))


def test_pad_fills_the_side_that_is_asked_for():
    rows = [[5, 6, 7], [8]]
    right, left, long = pad(rows, "right"), pad(rows, "left", fill=9), pad(rows, length=4)
    np.testing.assert_array_equal(right.tokens, [[5, 6, 7], [8, 0, 0]])
    np.testing.assert_array_equal(right.positions, [[0, 1, 2], [0, -1, -1]])
    np.testing.assert_array_equal(left.tokens, [[5, 6, 7], [9, 9, 8]])
    np.testing.assert_array_equal(left.positions, [[0, 1, 2], [-1, -1, 0]])
    np.testing.assert_array_equal(long.positions, [[0, 1, 2, -1], [0, -1, -1, -1]])
    assert {x.dtype for batch in (right, left, long) for x in batch} == {jnp.dtype("int32")}
    for batch in (right, left, long):
        assert unpad(*batch) == rows
        np.testing.assert_array_equal(positions_of(batch.positions >= 0), batch.positions)
    assert unpad(left.tokens) == [[5, 6, 7], [9, 9, 8]]


def test_positions_count_the_real_tokens_wherever_the_padding_is():
    mask = jnp.asarray([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    want = [[0, 1, -1, -1], [-1, -1, 0, 1], [0, -1, -1, 1], [-1, 0, -1, -1], [-1, -1, -1, -1]]
    for function in (positions_of, jax.jit(positions_of)):
        got = function(mask)
        np.testing.assert_array_equal(got, want)
        assert got.dtype == jnp.int32
    np.testing.assert_array_equal(jax.jit(last_rows)(got), [1, 3, 3, 1, -1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"side": "rigth"}, "did you mean 'right'"),
        ({"rows": []}, "no rows"),
        ({"rows": [[1], []]}, r"rows\[1\] has no tokens"),
        ({"length": 2}, r"rows\[0\] has 3 tokens, more than length = 2"),
        ({"length": 0}, "length = 0: must be at least 1"),
    ],
)
def test_rows_that_cannot_be_padded_are_named(change, words):
    with pytest.raises(InputError, match=words):
        pad(**{"rows": [[1, 2, 3], [4]], **change})


def test_what_a_tokenizer_adds_is_read_from_its_post_processor(gpt, bert, llama):
    assert (gpt.bos, gpt.eos, gpt.pad, gpt.prefix, gpt.suffix, gpt.adds_bos) == (0, None, None, (), (), False)
    assert (bert.bos, bert.eos, bert.pad, bert.prefix, bert.suffix, bert.adds_bos) == (2, 3, 0, (2,), (3,), True)
    assert (llama.bos, llama.eos, llama.pad, llama.prefix, llama.suffix, llama.adds_bos) == (
        1,
        2,
        None,
        (1,),
        (),
        True,
    )
    assert (gpt.fill, bert.fill, llama.fill) == (0, 0, 2)


@pytest.mark.parametrize("kind", [processors.BertProcessing, processors.RobertaProcessing])
def test_the_older_post_processors_are_read_too(tmp_path, kind):
    tokenizer = load_tokenizer(save(tmp_path, words_backend(kind(("[SEP]", 3), ("[CLS]", 2)))))
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.bos, tokenizer.eos) == ((2,), (3,), 2, 3)


@pytest.mark.parametrize("kind", ["gpt", "bert", "llama"])
def test_encoding_is_the_tokenizers_own_and_batched_is_single(kind, request):
    tokenizer = request.getfixturevalue(kind)
    texts = ["the cat hello.", "hello world!", "ü"]
    own = [tokenizer.backend.encode(text).ids for text in texts]
    for side in ("left", "right"):
        assert unpad(*encode(tokenizer, texts, side=side)) == own
    for text, ids in zip(texts, own, strict=True):
        alone = encode(tokenizer, [text])
        assert alone.tokens.tolist() == [ids] and alone.positions.tolist() == [list(range(len(ids)))]


def test_known_tokens_of_words(bert):
    batch = encode(bert, ["The cat sings.", "singing dog"], side="left", length=7)
    np.testing.assert_array_equal(batch.tokens, [[2, 4, 5, 6, 8, 9, 3], [0, 0, 2, 6, 7, 1, 3]])
    np.testing.assert_array_equal(batch.positions, [[0, 1, 2, 3, 4, 5, 6], [-1, -1, 0, 1, 2, 3, 4]])
    assert decode(bert, *batch, skip_special=True) == ["the cat sings.", "singing"]
    assert pieces(bert, *batch) == [
        ["[CLS]", " the", " cat", " sing", "s", ".", "[SEP]"],
        ["[CLS]", " sing", "ing", "[UNK]", "[SEP]"],
    ]


def test_there_is_exactly_one_bos_or_none(gpt, bert, llama):
    for tokenizer, text, spelled in (
        (gpt, "the cat", "<|endoftext|>"),
        (bert, "cat", "[CLS]"),
        (llama, "hello", "<s>"),
    ):
        bare = tokenizer.backend.encode(text, add_special_tokens=False).ids
        for said in (text, spelled + text, spelled * 2 + text):
            with_bos, without = (unpad(*encode(tokenizer, [said], bos=bos))[0] for bos in (True, False))
            assert with_bos[:1] == [tokenizer.bos] and with_bos.count(tokenizer.bos) == 1
            assert without == with_bos[1:]
        plain = unpad(*encode(tokenizer, [text], bos=False))[0]
        assert plain == [*bare, *tokenizer.suffix]
    assert unpad(*encode(llama, ["<s>hello"]))[0][:2] == [1, 1]  # as the tokenizer itself says


def test_a_bos_behind_another_special_token_stays_there(tmp_path):
    backend = words_backend(
        processors.TemplateProcessing(single="[PAD] [CLS] $A", special_tokens=[("[PAD]", 0), ("[CLS]", 2)])
    )
    tokenizer = load_tokenizer(save(tmp_path, backend, tokenizer_config={"bos_token": "[CLS]"}))
    assert unpad(*encode(tokenizer, ["cat"], bos=True)) == [[0, 2, 5]]
    assert unpad(*encode(tokenizer, ["cat"], bos=False)) == [[0, 5]]


def test_an_empty_text_is_an_error_unless_something_is_added(gpt, bert):
    assert unpad(*encode(gpt, ["a", ""], bos=True))[1] == [0]
    assert unpad(*encode(bert, [""])) == [[2, 3]]
    with pytest.raises(InputError, match=r"texts\[1\] = '' has no tokens \(bos=True gives it one\)"):
        encode(gpt, ["a", ""])


def test_a_long_text_is_cut_only_if_asked(bert):
    texts = ["the cat", "the cat sings."]
    with pytest.raises(InputError, match=r"texts\[1\] has 7 tokens, more than length = 5: truncate=True"):
        encode(bert, texts, length=5)
    assert unpad(*encode(bert, texts, length=5, truncate=True)) == [[2, 4, 5, 3], [2, 4, 5, 6, 3]]
    assert encode(bert, texts, length=9, truncate=True).tokens.shape == (2, 9)
    with pytest.raises(InputError, match="2 special tokens leave no room"):
        encode(bert, texts, length=2, truncate=True)
    with pytest.raises(InputError, match="needs a length"):
        encode(bert, texts, truncate=True)


def test_padding_and_truncation_in_the_file_are_turned_off(tmp_path):
    backend = bytes_backend()
    backend.enable_truncation(max_length=3)
    backend.enable_padding(length=50)
    tokenizer = load_tokenizer(save(tmp_path, backend))
    assert decode(tokenizer, *encode(tokenizer, TEXTS)) == TEXTS


@pytest.mark.parametrize("side", ["left", "right"])
def test_text_survives_the_round_trip(gpt, llama, side):
    batch = encode(gpt, TEXTS, bos=True, side=side)
    assert decode(gpt, *batch) == [f"<|endoftext|>{text}" for text in TEXTS]
    assert decode(gpt, *batch, skip_special=True) == TEXTS
    assert "".join(pieces(gpt, *batch)[0]) == f"<|endoftext|>{TEXTS[0]}"
    batch = encode(llama, ["hello world!", "hello ü"], side=side)
    assert decode(llama, *batch, skip_special=True) == ["hello world!", "hello ü"]
    assert pieces(llama, *batch) == [["<s>", " hello", " world", "!"], ["<s>", " hello", " ", "\ufffd", "\ufffd"]]


def test_one_row_of_positions_serves_a_batch(gpt):
    tokens = np.asarray([[9, 8], [7, 6]])
    assert decode(gpt, tokens, np.asarray([[0, -1]])) == decode(gpt, tokens[:, :1])


def test_ids_without_a_text_are_shown_but_not_decoded(gpt):
    tokens = jnp.asarray([[5, 300]])
    assert pieces(gpt, tokens)[0][1] == "<unused 300>"
    with pytest.raises(InputError, match=r"gpt/tokenizer.json: has no token 300; its ids end at 269"):
        decode(gpt, tokens)
    assert len(decode(gpt, tokens, jnp.asarray([[0, -1]]))) == 1


def test_a_vocabulary_may_be_larger_than_the_tokenizers(gpt, bert):
    assert (gpt.d_vocab, bert.d_vocab) == (270, 10)
    check_vocabulary(gpt, 270)
    check_vocabulary(gpt, 304)
    with pytest.raises(InputError, match=r"gpt/tokenizer.json: .* vocabulary of 270, .* d_vocab = 269"):
        check_vocabulary(gpt, 269)
    gpt.backend.add_special_tokens(["[PAD]"])  # lies beyond the model's embedding
    with pytest.raises(InputError, match=r"vocabulary of 271, .* d_vocab = 270"):
        check_vocabulary(gpt, 270)


def test_ids_that_only_the_post_processor_knows_count(tmp_path):
    template = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 40)])
    assert load_tokenizer(save(tmp_path, words_backend(template))).d_vocab == 41


def test_special_tokens_come_from_the_first_file_that_names_them(tmp_path):
    ids = {"bos_token_id": 0, "eos_token_id": [7, 8], "pad_token_id": -1}
    cases = [
        ({}, (None, None, None)),
        ({"config": ids}, (0, 7, None)),
        ({"config": ids, "special_tokens_map": {"eos_token": {"content": "<|endoftext|>"}}}, (0, 0, None)),
        ({"config": ids, "tokenizer_config": {"bos_token": None, "pad_token": "[PAD]"}}, (None, 7, None)),
        (
            {"special_tokens_map": {"bos_token": "no"}, "tokenizer_config": {"bos_token": "<|endoftext|>"}},
            (0, None, None),
        ),
    ]
    for i, (beside, want) in enumerate(cases):
        directory = save(tmp_path / str(i), bytes_backend(), **beside)
        for path in (directory, str(directory / "tokenizer.json")):
            tokenizer = load_tokenizer(path)
            assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == want
    (directory / "tokenizer.json").rename(directory / "mine.json")
    assert load_tokenizer(directory / "mine.json").bos is None  # what lies beside it belongs to another


def test_a_template_without_names_beside_it_names_its_bos(tmp_path):
    tokenizer = load_tokenizer(save(tmp_path, bytes_backend("<|endoftext|> $A"), config={"bos_token_id": 5}))
    assert tokenizer.bos == 0 and tokenizer.adds_bos and tokenizer.eos is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no tokenizer.json"),
        ({"tokenizer.model": b"\x0a"}, r"tokenizer.model: is no tokenizer.json; convert it .* AutoTokenizer"),
        ({"vocab.json": b"{}", "merges.txt": b""}, r"vocab.json: is no tokenizer.json; convert it"),
        ({"tokenizer.json": b""}, r"tokenizer.json: not JSON"),
        ({"tokenizer.json": b"{'a': 1}"}, r"tokenizer.json: not JSON"),
        ({"tokenizer.json": b"\xff\xfe"}, r"tokenizer.json: not JSON"),
        ({"tokenizer.json": b"[1]"}, r"tokenizer.json: expected a JSON object"),
        ({"tokenizer.json": b"[" * 100_000}, r"tokenizer.json: not JSON that can be read"),
        ({"tokenizer.json": b'{"model_type": "gpt2"}'}, r"tokenizer.json: JSON, but not a tokenizer"),
        ({"tokenizer_config.json": b"{"}, r"tokenizer_config.json: not JSON"),
        ({"tokenizer_config.json": b'{"bos_token": "<x>"}'}, r"tokenizer_config.json: its bos token '<x>' is not in"),
        ({"config.json": b'{"eos_token_id": 999}'}, r"config.json: its eos token 999 is not in the vocabulary"),
        ({"config.json": b'{"bos_token_id": 1000000000000000000000000}'}, r"config.json: its bos token 1000000000000"),
        ({"config.json": b"[]"}, r"config.json: expected a JSON object"),
    ],
)
def test_bad_files_are_named(tmp_path, files, words):
    if any("config" in name for name in files):
        save(tmp_path, bytes_backend())
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_path_and_a_sentencepiece_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none: no such file or directory"):
        load_tokenizer(tmp_path / "none")
    (tmp_path / "spiece.model").write_bytes(b"\x0a")
    with pytest.raises(InputError, match=rf"spiece.model: is no tokenizer.json; .*from_pretrained\('{tmp_path}'\)"):
        load_tokenizer(tmp_path / "spiece.model")


def test_a_tokenizer_that_is_no_file_is_named(tmp_path):
    file = tmp_path / "tokenizer.json"
    file.symlink_to("blob")
    with pytest.raises(InputError, match=f"^cannot read {file}: a symbolic link to blob, which is missing$"):
        load_tokenizer(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=f"^cannot read {file}: it is a directory$"):
        load_tokenizer(tmp_path)
    for path, words in (("", "the path is empty"), ("~nobody-of-this-name", "no such home"), ("x" * 5000, "too long")):
        with pytest.raises(InputError, match=words):
            load_tokenizer(path)


TEMPLATE = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
TEXT, CLS = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[CLS]", "type_id": 0}}


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        (TEMPLATE | {"single": [CLS, TEXT]}, r"adds the token '\[CLS\]', and does not say its ids"),
        ({"type": "Sequence", "processors": [TEMPLATE | {"single": [CLS, TEXT]}]}, r"adds the token '\[CLS\]'"),
        (TEMPLATE | {"single": []}, "puts the text there 0 times; expected once"),
        (TEMPLATE | {"single": [TEXT, TEXT]}, "puts the text there 2 times; expected once"),
        (TEMPLATE | {"single": 3}, "JSON, but not a tokenizer"),
    ],
)
def test_post_processors_that_cannot_be_are_named(tmp_path, processor, words):
    file = save(tmp_path, words_backend()) / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": processor}))
    with pytest.raises(InputError, match=f"^{file}: .*{words}"):
        load_tokenizer(tmp_path)


def test_a_word_that_is_not_even_unknown_is_an_error(tmp_path):
    backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))
    with pytest.raises(InputError, match=r"tokenizer.json: cannot encode \(.*\[UNK\]"):
        encode(load_tokenizer(save(tmp_path, backend)), ["b"])


def test_ids_beyond_32_bits_are_no_tokens(gpt):
    tokens = np.asarray([[5, 2**40]])
    assert pieces(gpt, tokens)[0][1] == f"<unused {2**40}>"
    with pytest.raises(InputError, match=f"has no token {2**40}; its ids end at 269"):
        decode(gpt, tokens)


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        ([], {}, "no texts"),
        ("the cat", {}, "texts is one string: give a list"),
        (["a\ud800"], {}, "UTF-8"),
        (["a"], {"side": "lef"}, "did you mean 'left'"),
        (["a"], {"bos": True}, r"tokenizer.json has no BOS token, nor does tokenizer_config.json"),
        ([""], {}, r"texts\[0\] = '' has no tokens$"),
    ],
)
def test_bad_requests_are_named(tmp_path, texts, options, words):
    with pytest.raises(InputError, match=words):
        encode(load_tokenizer(save(tmp_path, bytes_backend())), texts, **options)
