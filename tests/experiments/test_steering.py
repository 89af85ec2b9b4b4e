"""Steering a model: what is decided where in a source, curves beside NumPy, a run from files to a report, and bad input."""

import json
import os

import numpy as np
import pytest
from rich.console import Console

from interp_jax.data.corpus_io import train_tokenizer
from interp_jax.data.probing.source_labels import Tokenised, windows_of
from interp_jax.errors import InputError
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.job import run_job
from interp_jax.experiments.steering import findings
from interp_jax.experiments.steering.config import Config, Doses, Features, Reading, Tuning, Written
from interp_jax.experiments.steering.findings import METHODS
from interp_jax.experiments.steering.methods import DIRECTIONS, TARGETED
from interp_jax.experiments.steering.reading import Asked, contrast_of, text_of
from interp_jax.experiments.steering.samples import prompts_of
from interp_jax.experiments.steering.subject import halves
from interp_jax.experiments.steering.targets import Source, comments, indentation, strings, target_of
from interp_jax.experiments.sweep import expand
from interp_jax.models.transformer import TransformerConfig
from interp_jax.results.run_directory import finished_members

FILE = load_file(CONFIGS / "steering.py")
LINES = """def f(a):
    # why
    if a == "b":
        return g(a, 'c',
                 1)
    return 2

# end
x = f(
    y)
"""


def source_of(text, length, names=("a.py",)):
    """One token per character but for line ends with their indentation, and windows of them."""
    tokenizer = train_tokenizer([text], 600)
    pieces = [tokenizer.decode([i], skip_special_tokens=False) for i in range(tokenizer.get_vocab_size())]
    encoded = tokenizer.encode(text)
    documents = [Tokenised(name, text, encoded.ids, encoded.offsets) for name in names]
    return Source(windows_of(documents, 100, length, "lines"), pieces)


@pytest.fixture(scope="module")
def source():
    text = LINES + "z = 0\n" * 3
    n = len(train_tokenizer([text], 600).encode(text).ids)
    return source_of(text, n)


def decided(source, target):
    """What the text says next at each decision point, and whether that is what is wanted."""
    words = [source.pieces[i] for i in source.data.tokens[0]]
    places = np.flatnonzero(target.decides[0])
    return [("".join(words[p + 1 : p + 3]).strip("\n"), bool(target.positive[0, p])) for p in places]


def test_comments_are_decided_at_line_ends(source):
    found = decided(source, comments(source))
    assert [wanted for text, wanted in found if text.lstrip().startswith("#")] == [True, True]
    assert not any(wanted for text, wanted in found if not text.lstrip().startswith("#"))
    assert len(found) >= 8
    assert all(piece.lstrip().startswith("#") for i, piece in enumerate(source.pieces) if comments(source).tokens[i])


def test_strings_are_decided_where_operands_begin(source):
    found = decided(source, strings(source))
    assert sum(wanted for _, wanted in found) == 2, found
    assert all(("'" in text[:2] or '"' in text[:2]) == wanted for text, wanted in found), found


def test_indentation_is_decided_at_the_ends_of_statements(source):
    """Two steps deep after `if`, and nowhere else; not within brackets, though what follows there is indented, too."""
    target = indentation(source)
    words = [source.pieces[i] for i in source.data.tokens[0]]
    before = [
        "".join(words[: p + 1]).rstrip("\n ").rpartition("\n")[2].strip() for p in np.flatnonzero(target.positive[0])
    ]
    assert before == ['if a == "b":'], before
    after = ["".join(words[: p + 1]) for p in np.flatnonzero(target.decides[0])]
    assert not any(text.rstrip().endswith(("'c',", "x = f(")) for text in after)
    assert any(text.rstrip().endswith("1)") for text in after)
    deep = {piece for i, piece in enumerate(source.pieces) if target.tokens[i]}
    assert "\n       " in deep and "\n   " not in deep and all(piece.endswith(" " * 7) for piece in deep)


def test_a_target_that_the_text_does_not_decide_is_refused():
    flat = source_of("x = 1\n" * 40, 16)
    with pytest.raises(InputError, match="'comments': no token of the model is of its class"):
        target_of("comments", Source(flat.data, ["x"] * len(flat.pieces)))
    with pytest.raises(InputError, match=r"'strings': at 0 positions of lines it is so"):
        target_of("strings", flat)


@pytest.fixture(scope="module")
def asked():
    source = source_of((LINES + "z = [0, 'd']  # no\n") * 12, 24, ("a.py", "b.py", "c.py", "d.py"))
    targets = [comments(source), strings(source)]
    fit, measured = halves(source.data, 0)
    config = Config(targets=("comments", "strings"), reading=Reading(examples=40, measured=4))
    cfg = TransformerConfig(d_vocab=len(source.pieces), n_context=32)
    return Asked(config, cfg, source.data, targets, fit, measured, 0)


def test_no_file_is_on_both_sides(asked):
    group = asked.data.group
    assert not set(group[asked.fit]) & set(group[asked.measured])
    assert len(asked.fit) + len(asked.measured) == len(group) and 0.3 < len(asked.fit) / len(group) < 0.7


def test_contrasts_are_decision_points_of_the_same_token(asked):
    for target in asked.targets:
        found = contrast_of(asked, target, np.random.default_rng(0))
        width = asked.data.tokens.shape[1]
        assert target.positive.ravel()[found.positive].all() and len(found.positive) == len(found.negative) <= 40
        assert (target.decides & ~target.positive).ravel()[found.negative].all()
        assert np.isin(found.positive // width, asked.fit).all() and np.isin(found.negative // width, asked.fit).all()
        token = asked.data.tokens.ravel()
        possible = asked.data.tokens[asked.fit][(target.decides & ~target.positive)[asked.fit]]
        same = token[found.positive] == token[found.negative]
        np.testing.assert_array_equal(same, np.isin(token[found.positive], possible))


def test_text_is_weighed_where_it_decides_and_where_it_does_not(asked):
    text = text_of(asked, asked.measured)
    np.testing.assert_array_equal(np.asarray(text.wanted) + np.asarray(text.elsewhere), 1)
    np.testing.assert_array_equal(text.wanted[1], asked.targets[1].decides[asked.measured])


def test_prompts_end_where_it_is_decided(asked):
    target = asked.targets[0]
    prompts = prompts_of(asked._replace(config=Config(written=Written(length=8))), target.decides & ~target.positive)
    rows = asked.data.tokens.tolist()
    for prompt in prompts.tolist():
        ends = [
            (w, p)
            for w in asked.measured
            for p in np.flatnonzero(target.decides[w])
            if rows[w][p + 1 - len(prompt) : p + 1] == prompt
        ]
        assert ends


# ------------------------------------------------------------------------------------------------- findings


def made_up(n_files=12, seed=0):
    """Sums of two targets and two layers: effect rate · dose at layer 1, half at layer 0, divergence dose²; noise by file."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_files), 2)
    W, doses = len(group), np.array([0.1, 0.2, 0.4, 0.8])
    n, m = rng.integers(3, 9, (2, W)), rng.integers(20, 40, (2, W))
    own = rng.normal(size=n_files)[group] * 0.2
    rate = np.linspace(1, 2, len(METHODS))

    def sums(rates):
        per = np.array([0.5, 1.0])[:, None] * doses  # [L X]
        cross = np.array([[1.0, -0.5], [0.0, 1.0]])  # [steered measured]
        effect = np.einsum("k,lx,tu->ktlxu", rates, per, cross)[..., None] + own * per[None, None, :, :, None, None]
        kl = np.broadcast_to(doses[:, None, None] ** 2, (len(rates), 2, 2, len(doses), 2, W))
        return before + effect * n, kl * m

    before = -3.0 * n
    wanted, kl = sums(rate)
    K = len(DIRECTIONS)
    random_wanted, random_kl = (x[:, 0] for x in sums(np.array([-0.2, 0.2])))
    return {
        "group": group, "before": before, "weights": np.stack([n, m]).astype(float), "directions.wanted": wanted[:K],
        "directions.kl": kl[:K], "others.wanted": wanted[K:], "others.kl": kl[K:], "random.wanted": random_wanted,
        "random.kl": random_kl,
    }  # fmt: skip


DOSES = Doses(doses=(0.1, 0.2, 0.4, 0.8), bound=0.09)


def test_scores_are_ratios_of_sums_read_at_the_bound():
    """At a divergence of .09 the dose is .3."""
    arrays = made_up()
    scores = findings.scores_of(arrays, 0, DOSES)
    np.testing.assert_allclose(scores.dose, 0.3, rtol=1e-6)
    n, own = arrays["weights"][0, 0], (arrays["directions.wanted"][0, 0, 1, 0, 0] - arrays["before"][0]) / 0.1
    noise = (own.sum() - n.sum() * 1.0) / n.sum()
    expected = 0.3 * np.array([0.5, 1.0]) * (np.linspace(1, 2, len(METHODS))[:, None] + noise)
    np.testing.assert_allclose(scores.effect, expected, rtol=1e-6)
    assert (scores.low < scores.effect).all() and (scores.effect < scores.high).all()
    assert findings.best_layers(scores).tolist() == [1] * len(METHODS)
    best = findings.best_direction(arrays, 0, DOSES)
    assert (best.method, best.layer) == (len(DIRECTIONS) - 1, 1) and best.dose == pytest.approx(0.3)
    across = findings.scores_of(arrays, 0, DOSES, measured=1)
    assert np.all(across.effect[:, 1] < 0), "what is steered for one target is measured on the other"
    assert findings.best_direction(arrays, 0, Doses(doses=DOSES.doses, bound=9.0)) is None


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Over 200 draws of 12 files: the bootstrap of so few is somewhat short, and is no shorter than that."""
    held = []
    for seed in range(200):
        scores = findings.scores_of(made_up(seed=seed), 0, DOSES)
        held.append(scores.low[0, 1] < 0.3 < scores.high[0, 1])
    assert 0.84 < np.mean(held) < 0.99, np.mean(held)


# ------------------------------------------------------------------------------------------------- bad input, and a run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ("coments",)}, "targets: unknown 'coments'; did you mean 'comments'"),
        ({"targets": ()}, "must be different names, at least one"),
        ({"doses": Doses(doses=(0.4, 0.2))}, "doses.doses = .*: must be rising numbers above 0"),
        ({"doses": Doses(bound=0.0)}, "doses.bound = 0.0: must be above 0"),
        ({"doses": Doses(random=1)}, "doses.random = 1: must be at least 2"),
        ({"tuning": Tuning(rates=())}, "tuning.rates = .*: must be rising"),
        ({"features": Features(k=9, n_features=4)}, "features.k = 9 of features.n_features = 4"),
        ({"reading": Reading(measured=1)}, "reading.measured = 1: must be at least 2"),
    ],
)
def test_what_cannot_be_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        Config(**changes).check()


def test_variants_are_valid():
    for arg in FILE.VARIANTS:
        assert len(expand(FILE.get_config(arg), FILE, ["seeds"])) == 3


@pytest.mark.slow
def test_a_model_is_grown_and_steered(tmp_path):
    """From files to a report."""
    for i in range(12):
        text = "".join(
            f"def f{i}{j}(a, b=({j},)):\n    # {j}\n    if a:\n        return [a, 'b{j}']\n" for j in range(24)
        )
        (tmp_path / "text" / f"{i}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "text" / f"{i}.py").write_text(text)
    changes = {
        "steps": 3, "grown.data.path": tmp_path / "text", "grown.data.held_out": 0.5, "grown.model.d_vocab": 270,
        "grown.model.d_model": 16, "grown.model.n_heads": 2, "grown.model.d_head": 8, "grown.model.d_mlp": 16,
        "reading.length": 24, "grown.model.n_context": 32, "targets": "('comments', 'strings')",
        "output.directory": tmp_path / "out",
    }  # fmt: skip
    values = {key: str(value) for key, value in changes.items()}
    report = run_job(
        f"{CONFIGS}/steering.py:tiny",
        values,
        ("none",),
        False,
        "./launch/local …",
        Console(file=open(os.devnull, "w")),
    )
    (place,) = finished_members(report.parent).values()
    seen = {name: value[0] for name, value in place.directory.observations()[3].items()}
    K, T, L = len(DIRECTIONS), 2, 2
    assert seen["directions.wanted"].shape[:5] == (K, T, L, 2, T) and seen["others.kl"].shape[:5] == (3, T, L, 2, T)
    np.testing.assert_allclose(np.einsum("kktl->ktl", seen["cosines"]), 1, rtol=1e-4)
    np.testing.assert_array_equal(seen["weights"].sum(0), 24)
    about = json.loads(str(seen["about"]))
    assert [target["measured"][1] for target in about["targets"]] == seen["weights"][0].sum(1).astype(int).tolist()
    assert (seen["directions.kl"] > -1e-4).all() and (seen["before"] < 0).all()
    best = seen["predicted.effect"][:, 0, :, 0] / np.sqrt(seen["predicted.kl"][:, 0, :, 0])
    assert best.argmax(0).tolist() == [DIRECTIONS.index(TARGETED)] * L, (
        "no direction is predicted to do more at its price"
    )
    html = report.read_text()
    assert "Methods at one divergence" in html and "Steered text" in html and str(tmp_path / "text") in html
