"""Looking inside: known answers on the circuit, sums that agree on a published model, and errors in one line."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from interp_jax import parts
from interp_jax.errors import InputError
from interp_jax.experiments import inside
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.heads.runs import distinct_repeated, expected_scores
from interp_jax.experiments.inside import prompt, runs
from interp_jax.experiments.inside.config import Show
from interp_jax.experiments.main import main
from interp_jax.experiments.subjects import model as subjects
from interp_jax.experiments.subjects import tokens
from interp_jax.experiments.subjects.kinds import Repeats
from interp_jax.experiments.subjects.model import Model
from interp_jax.models import transformer
from interp_jax.results.report import render
from interp_jax.train.population import population
from interp_jax.train.run import Span
from third_party import huggingface
from third_party.huggingface.parity import golden

WORDS = ["<s>", "<b>", "&", "the", "Mary", "John", "store", "gave", "a", "drink", "to", "M", "ary"]
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 3, "n_head": 2, "n_embd": 16, "n_positions": 24,
    "vocab_size": len(WORDS) + 1, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}  # fmt: skip


def run_group(config, n_seeds=1):
    """What the engine does, without disk."""
    members = [dataclasses.replace(config, seed=i) for i in range(n_seeds)]
    made = inside.experiment(members[0])

    def whole(hypers, shared):
        state = made.run.init(hypers.seed, hypers)
        state, _ = made.run.advance(state, hypers, Span(0, 1), shared)
        return made.observe(state, hypers, shared)

    stacked = parts.stack(members)
    seen = jax.device_get(population(whole, n_seeds, jax.devices()[:1])(stacked, made.shared))
    hashes = tuple(map(str, range(n_seeds)))
    return GroupResult(stacked, hashes, np.full(n_seeds, -1), {1: seen}, {}, np.zeros(0), (), np.zeros(n_seeds))


def write_tokenizer(directory):
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(directory / "tokenizer.json"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A GPT-2 of three layers with random weights, as it is published."""
    directory = tmp_path_factory.mktemp("tiny<b>")
    cfg = huggingface.configure(GPT2)
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    rng = np.random.default_rng(0)  # so that no bias and no norm is neutral
    params = jax.tree.map(lambda x: (0.5 * rng.normal(size=x.shape)).astype(np.float32), shapes)
    huggingface.save(directory, params, cfg, GPT2)
    write_tokenizer(directory)
    return directory


@pytest.fixture(scope="module")
def circuit():
    return run_group(inside.Config(), 2)


@pytest.fixture(scope="module")
def random_model(published):
    return run_group(of(published), 1)


def of(directory, **changes):
    return inside.Config(
        model=Model(path=str(directory)), repeats=Repeats(2, 5), **{"prompt": "the John gave <b> & to", **changes}
    )


# --- what is known


def test_the_circuit_owes_its_answer_to_head_1_0(circuit):
    seen = {name: value[0] for name, value in circuit.observations[1].items()}
    assert subjects.ALPHABET[seen["pair"][0]] == "c"  # flask birch flask bir-
    np.testing.assert_allclose(seen["head"], [[0, 0], [seen["difference"], 0]], atol=1e-5)
    attention = expected_attention(inside.Config().model.sharpness)
    assert seen["difference"] == pytest.approx(8 * attention, rel=1e-5)
    np.testing.assert_allclose(seen["component"], [0, 0, 0, seen["difference"]], atol=1e-5)


def expected_attention(s):
    """Attention of head 1.0 on the "c" that followed, less that on the "a", the least of the other letters, by definition."""
    tokens = np.array([subjects.ALPHABET.index(c) for c in prompt.CIRCUIT_PROMPT])
    n, visible = len(tokens), np.tri(len(tokens), dtype=bool)
    softmax = lambda x: np.where(visible, np.exp(x), 0) / np.where(visible, np.exp(x), 0).sum(1, keepdims=True)
    before = softmax(s * np.eye(n, k=-1))
    match = softmax(s * ((tokens[:, None] == tokens) @ before.T))
    on = lambda letter: match[-1][tokens == subjects.ALPHABET.index(letter)].sum()
    return on("c") - max(on(letter) for letter in subjects.ALPHABET if letter != "c")


def test_kinds_of_head_are_those_of_the_circuit_for_every_seed(circuit):
    seen = circuit.observations[1]
    for seed in range(2):
        tokens = np.asarray(distinct_repeated(seed, 8, 20, 26))
        truth = expected_scores(tokens, 8.0)
        for kind in truth._fields:
            np.testing.assert_allclose(seen[kind][seed], getattr(truth, kind), atol=1e-5)
    np.testing.assert_array_equal(
        seen["lens_ids"][0], seen["lens_ids"][1]
    )  # the seed is that of the random tokens alone


def test_only_keys_compose_in_the_circuit(circuit):
    seen = {name: value[0] for name, value in circuit.observations[1].items()}
    assert seen["k"].argmax() == np.ravel_multi_index((0, 0, 1, 0), (2, 2, 2, 2)) and seen["k"].max() > 0.1
    assert seen["q"].max() < 1e-6 and seen["v"].max() < 1e-6


def test_by_weights_alone_1_0_copies_and_0_1_matches(circuit):
    seen = {name: value[0] for name, value in circuit.observations[1].items()}
    np.testing.assert_allclose(seen["copying"], [[0, 0], [1, 0]], atol=1e-5)
    np.testing.assert_allclose(seen["matching"], [[0, 1], [0, 0]], atol=1e-5)
    assert seen["circuits"].tolist() == [0, 1, 2, 3]
    values = seen["ov_values"][:, : len(subjects.ALPHABET)]  # of the 40 of a head, 26 can be other than 0
    np.testing.assert_allclose(values, np.outer([0, 0, inside.Config().model.sharpness, 0], np.ones(26)), atol=1e-4)
    np.testing.assert_array_equal(seen["ov_rows"][2, :, 0], seen["ov_columns"][2, :, 0])  # the same token at both ends
    np.testing.assert_array_equal(seen["qk_rows"][1, :, 0], seen["qk_columns"][1, :, 0])


def test_circuits_are_those_of_the_folded_model(random_model, published):
    seen = {name: value[0] for name, value in random_model.observations[1].items()}
    params, cfg = jax.tree.map(np.float64, huggingface.load(published)[0]), huggingface.load(published)[1]
    g = lambda norm: params["blocks"][norm]["w"][:, None, :, None] if norm == "ln1" else params[norm]["w"][:, None]
    W_E, attn = params["embed"]["W_E"], params["blocks"]["attn"]
    ov = W_E @ (g("ln1") * attn["W_V"]) @ attn["W_O"] @ (g("ln_final") * W_E.T)
    qk = W_E @ (g("ln1") * attn["W_Q"]) @ np.swapaxes(g("ln1") * attn["W_K"], -1, -2) @ W_E.T * cfg.d_head**-0.5
    for score, dense in (("copying", ov), ("matching", qk)):
        values = np.linalg.eigvals(dense)
        np.testing.assert_allclose(seen[score], values.real.sum(-1) / np.abs(values).sum(-1), atol=1e-3)
    for name, dense in (("ov", ov), ("qk", qk)):
        dense = dense.reshape(-1, *dense.shape[2:])[seen["circuits"]]
        u, s, vh = np.linalg.svd(dense)
        n = seen[f"{name}_values"].shape[1]
        np.testing.assert_allclose(seen[f"{name}_values"], s[:, :n], rtol=1e-3)
        sign = np.sign(np.take_along_axis(u, np.abs(u).argmax(1)[:, None], 1))[:, 0, :3]
        rows = (u[:, :, :3] * sign[:, None]).argmax(1)
        np.testing.assert_array_equal(seen[f"{name}_rows"][:, :, 0], rows)
        columns = (vh[:, :3] * sign[:, :, None]).argmax(2)
        np.testing.assert_array_equal(seen[f"{name}_columns"][:, :, 0], columns)


def test_the_last_row_of_the_lens_is_the_model(random_model, published):
    seen = {name: value[0] for name, value in random_model.observations[1].items()}
    params, cfg = huggingface.load(published)
    logits = jax.jit(transformer.apply, static_argnums=2)(params, seen["tokens"][None], cfg)[0]
    np.testing.assert_array_equal(seen["lens_ids"][-1, :, 0], logits.argmax(-1))
    np.testing.assert_allclose(seen["lens_probability"][-1, :, 0], jax.nn.softmax(logits).max(-1), rtol=1e-4)
    assert seen["pair"].tolist() == np.argsort(-np.asarray(logits[-1]))[:2].tolist()
    assert WORDS[seen["tokens"][0]] == "<s>"  # as the tokenizer begins a text


def test_sums_agree(random_model):
    seen = {name: value[0] for name, value in random_model.observations[1].items()}
    assert seen["component"].sum() + seen["constant"] == pytest.approx(seen["difference"], abs=1e-3)
    attention, mlp = seen["component"][2::2].sum(), seen["component"][3::2].sum()
    assert seen["head"].sum() + seen["head_rest"] == pytest.approx(attention, abs=1e-3)
    assert seen["neuron"].sum() + seen["neuron_rest"] == pytest.approx(mlp, abs=1e-3)
    assert (np.diff(np.abs(seen["neuron"])) <= 0).all() and abs(seen["head_rest"]) > 1e-3
    np.testing.assert_allclose(seen["pattern"].sum(-1), 1, rtol=1e-5)


def test_what_is_asked_for_is_what_is_compared(published):
    asked = inside.experiment(of(published, answer="Mary", against="store")).shared.pair
    assert [WORDS[i] for i in asked] == ["Mary", "store"]
    logits = jnp.array([0.0, 3.0, 2.0, 1.0])
    chosen = [runs.choose(logits, jnp.array(pair)).tolist() for pair in ([-1, -1], [-1, 1], [3, -1], [1, -1], [0, 3])]
    assert chosen == [[1, 2], [2, 1], [3, 1], [1, 2], [0, 3]]


def test_layers_are_spread_evenly_and_end_with_the_last():
    cfg = huggingface.configure({**GPT2, "n_layer": 12})
    layers = lambda n: runs.lens_layers(inside.Config(show=Show(layers=n)), cfg).tolist()
    assert layers(1) == [11] and layers(2) == [0, 11] and layers(16) == list(range(12)) and len(layers(5)) == 5


@pytest.mark.slow
def test_less_can_be_shown(published):
    group = run_group(of(published, show=Show(positions=3, layers=2, heads=4, circuits=3, bars=5)))
    seen = {name: value[0] for name, value in group.observations[1].items()}
    assert seen["lens_ids"].shape == (2, 3, 5) and seen["pattern"].shape == (4, 3, 3) and seen["neuron"].shape == (5,)
    assert seen["qk_rows"].shape == (3, 3, 5) and seen["ov_values"].shape == (3, 8)
    assert seen["first"] == 4 and (np.diff(seen["shown"]) > 0).all()
    captions = " ".join(block.caption for block in inside.report([group]).blocks if hasattr(block, "caption"))
    assert "2 of 3 layers are shown. 3 of 7 positions are shown." in captions


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt_neox", "llama, one key head, llama3, tied", "qwen3", "gemma2"])
def test_other_architectures_can_be_looked_at(name, tmp_path):
    golden.write_checkpoint_by_seed(tmp_path, golden.read(name).config)
    config = inside.Config(model=Model(path=str(tmp_path)), tokens=(1, 2, 3, 4), repeats=Repeats(2, 4))
    group = run_group(config)
    seen = {key: value[0] for key, value in group.observations[1].items()}
    cfg = huggingface.configure(golden.read(name).config)
    said = seen["component"].sum() + seen["constant"]
    assert cfg.logit_cap or seen["difference"] == pytest.approx(said, abs=1e-3)
    parts_of_layers = seen["head"].sum() + seen["head_rest"] + seen["neuron"].sum() + seen["neuron_rest"]
    assert parts_of_layers == pytest.approx(seen["component"][-2 * cfg.n_layers :].sum(), abs=1e-3)
    page = inside.report([group])
    assert "Composition" in render(page.title, page.summary, page.blocks)


# --- the page


def test_the_page_escapes_and_says_what_is_known(circuit, random_model):
    page = inside.report([circuit, random_model])
    html = render(page.title, page.summary, page.blocks)
    assert "<b>" not in html.replace("<b>Table", "").replace("<b>Figure", "") and "&lt;b&gt;" in html
    assert "head 1.0" not in page.summary and "among heads 1.0 (+7.95)" in page.summary
    headings = [block.heading for block in page.blocks if hasattr(block, "heading")]
    assert "Composition of heads (2)" in headings and len(headings) == 14
    assert inside.report([circuit]).title == "Inside an induction circuit built by hand"


# --- what cannot be


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "the " * 30}, "the prompt has 31 tokens, more than the model's context of 24"),
        ({"answer": "Mary John"}, "'Mary John' is not one token but 2: ' Mary', ' John'"),
        ({"answer": "to", "against": "to"}, "do not differ"),
        ({"prompt": "", "tokens": (1, 99)}, "99 is no token; ids go from 0 to 13"),
        ({"prompt": "", "tokens": (1,)}, "the prompt has 1 tokens: give at least 2"),
        ({"tokens": (1, 2)}, "prompt and tokens are both given"),
        ({"prompt": "a\udcff"}, r"prompt = 'a\udcff': must be characters that UTF-8 can write"),
    ],
)
def test_impossible_questions_are_named(published, changes, words):
    with pytest.raises(InputError) as error:
        config = of(published, **changes)
        config.check()
        inside.experiment(config)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--config.model.path={}/nothing"], "{}/nothing: no such directory, and no hub id"),
        (["--config.model.path={}"], "{}: neither model.safetensors nor model.safetensors.index.json"),
        (["--config.model.path={}", "--config.prompt=the John", "--config.answer=a a"], "is not one token but 2"),
    ],
)
def test_a_job_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch, options, words):
    model, runs_directory = tmp_path / "model", tmp_path / "new" / "runs"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(GPT2))
    write_tokenizer(model)
    monkeypatch.setenv("INTERP_JAX_RUNS", str(runs_directory))
    with pytest.raises(InputError) as error:
        main(["--config", "configs/inside.py", *(option.format(model) for option in options)])
    assert words.format(model) in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [model]


def test_a_path_that_no_report_can_hold_is_named():
    with pytest.raises(InputError, match=r"model.path = 'a\\udcff': must be characters that UTF-8 can write"):
        of("a\udcff").check()


def test_a_job_that_cannot_begin_leaves_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_JAX_RUNS", str(tmp_path))
    (tmp_path / "inside").mkdir()
    with pytest.raises(InputError, match="no such directory"):
        main(["--config", "configs/inside.py", f"--config.model.path={tmp_path}/nothing"])
    assert list(tmp_path.iterdir()) == [tmp_path / "inside"]


def test_a_tokenizer_that_cannot_be_read_is_not_taken_for_none(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(GPT2))
    (tmp_path / "tokenizer.json").symlink_to("blob")
    with pytest.raises(InputError, match="cannot read .*tokenizer.json: a symbolic link to blob, which is missing"):
        inside.experiment(of(tmp_path))


def test_models_that_cannot_be_looked_at_are_named(published, tmp_path):
    with pytest.raises(InputError, match="--config.model.path: .*/nothing: no such directory"):
        inside.experiment(of(tmp_path / "nothing"))
    (tmp_path / "config.json").write_text(json.dumps(GPT2))
    with pytest.raises(InputError, match=r"no tokenizer.json beside the weights.*--config.tokens='\(1, 2, 3\)'"):
        inside.experiment(of(tmp_path))
    for changes, words in (
        ({"head": "none"}, "has no logits"),
        ({"placement": "post"}, "not a sum of what its parts"),
    ):
        with pytest.raises(InputError, match=words):
            prompt.check_is_readable(dataclasses.replace(huggingface.configure(GPT2), **changes), "a")


def test_without_a_tokenizer_tokens_are_ids(published):
    bare = subjects.subject_of(of(published).model)._replace(tokenizer=None)
    config = of(published, prompt="", tokens=(3, 5))
    assert prompt.prompt_of(config, bare) == [3, 5] and tokens.names_of([3, 5], bare) == ["3", "5"]
    assert tokens.token_of("7", "answer", bare) == 7 and tokens.token_of("", "answer", bare) == -1
    with pytest.raises(InputError, match="'Mary': without a tokenizer it is an id from 0 to 13"):
        tokens.token_of("Mary", "answer", bare)


def test_letters_are_the_tokens_of_the_circuit():
    circuit = subjects.subject_of(inside.Config().model)
    assert prompt.prompt_of(inside.Config(prompt="abz"), circuit) == [0, 1, 25]
    with pytest.raises(InputError, match="' ' is no token"):
        prompt.prompt_of(inside.Config(prompt="a b"), circuit)


def test_a_token_that_needs_a_space_is_suggested(tmp_path):
    tokenizer = Tokenizer(
        models.BPE({"a": 0, "b": 1, " ": 2, "ab": 3, " ab": 4, "c": 5, " a": 6}, [(" ", "a"), (" a", "b")])
    )
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    asked = subjects.Subject("x", huggingface.configure(GPT2), subjects.tokenizer_io.load_tokenizer(tmp_path))
    assert tokens.token_of(" ab", "answer", asked) == 4
    with pytest.raises(InputError, match="'ab' is not one token but 2: 'a', 'b'; did you mean ' ab', which is one"):
        tokens.token_of("ab", "answer", asked)
