"""Pairs: both sides stay aligned, whatever is done to them; corruptions without a second text; every refusal's words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.data.contrast.pairs import Pairs, check_pairs, derangement, marked, noise, resampled, select
from interp_jax.data.contrast.rows import aligned, concatenate
from interp_jax.data.tokens import unpad
from interp_jax.errors import InputError

CLEAN = [[1, 2, 3], [4, 5], [6, 7, 8], [2, 3]]
CORRUPTED = [[1, 9, 3], [4, 6], [6, 7, 1], [3, 3]]
ANSWERS = [[1], [2, 3], [4], [5]]
OTHERS = [[2, 3, 4], [1], [5], [6]]
PLACES = {"WORD": [1, 0, 2, 1], "END": [2, 1, 2, 1]}


def four(**options):
    return aligned(CLEAN, CORRUPTED, ANSWERS, OTHERS, PLACES, **options)


def at(pairs, name):
    """The clean token at a place of each example."""
    return np.asarray(pairs.clean)[np.arange(len(pairs.clean)), pairs.places[name]].tolist()


@pytest.mark.parametrize("side", ["left", "right"])
def test_both_sides_are_padded_alike_and_places_keep_their_token(side):
    pairs = four(side=side, fill=8)
    assert unpad(pairs.clean, pairs.positions) == CLEAN
    assert unpad(pairs.corrupted, pairs.positions) == CORRUPTED
    assert at(pairs, "WORD") == [2, 4, 8, 3] and at(pairs, "END") == [3, 5, 8, 3]
    padding = np.asarray(pairs.positions) == -1
    assert (np.asarray(pairs.clean)[padding] == 8).all() and (np.asarray(pairs.corrupted)[padding] == 8).all()
    assert padding[1].tolist() == ([True, False, False] if side == "left" else [False, False, True])
    np.testing.assert_array_equal(pairs.answers, [[1, -1], [2, 3], [4, -1], [5, -1]])
    np.testing.assert_array_equal(pairs.others, [[2, 3, 4], [1, -1, -1], [5, -1, -1], [6, -1, -1]])
    assert {x.dtype for x in jax.tree.leaves(pairs)} == {jnp.dtype("int32")}
    check_pairs(pairs, 10)


def test_pairs_of_one_length_share_their_positions():
    pairs = select(four(), [0, 2])
    assert pairs.positions.shape == (2, 3)
    shared = concatenate([pairs])
    np.testing.assert_array_equal(shared.positions, [[0, 1, 2]])
    np.testing.assert_array_equal(select(shared, [1]).positions, [[0, 1, 2]])
    check_pairs(select(shared, np.array([False, True])), 10)
    for absent in ([2], [-3], np.array([True])):
        with pytest.raises(InputError, match="examples of 2 pairs: "):
            select(shared, absent)


def test_select_and_concatenate_are_inverses():
    for side in ("left", "right"):
        pairs = four(side=side)
        apart = [select(pairs, [2]), select(pairs, [3, 0]), select(pairs, np.array([False, True, False, False]))]
        jax.tree.map(np.testing.assert_array_equal, concatenate(apart, side=side), select(pairs, [2, 3, 0, 1]))


def test_concatenate_pads_anew_and_moves_the_places():
    short = concatenate([select(four(), [1, 3])])
    assert short.clean.shape == (2, 2) and short.positions.shape == (1, 2)
    whole = concatenate([select(four(), [0]), short], side="right")
    assert unpad(whole.clean, whole.positions) == [CLEAN[0], CLEAN[1], CLEAN[3]]
    assert at(whole, "WORD") == [2, 4, 3] and at(whole, "END") == [3, 5, 3]


def test_marked_places_are_the_ones_named():
    pairs = four()
    both = np.asarray(marked(pairs, "WORD", "END"))
    np.testing.assert_array_equal(both, np.asarray(marked(pairs, "WORD")) | np.asarray(marked(pairs, "END")))
    assert np.asarray(pairs.clean)[both].tolist() == [2, 3, 4, 5, 8, 3]  # WORD is END in the last two
    assert not marked(pairs).any()
    with pytest.raises(InputError, match="no place 'WORDS': did you mean 'WORD'"):
        marked(pairs, "WORDS")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"clean": [[1, 2], *CLEAN[1:]]},
            r"pair 0: clean has 2 tokens and corrupted 3: \[1, 2\] against \[1, 9, 3\]",
        ),
        ({"corrupted": [*CORRUPTED[:3], [2, 3]]}, r"pair 3: clean and corrupted are the same tokens: \[2, 3\]"),
        ({"clean": [[], *CLEAN[1:]], "corrupted": [[], *CORRUPTED[1:]]}, "pair 0: clean and corrupted have no tokens"),
        ({"answers": [[1], [], [4], [5]]}, "pair 1: has no answer"),
        ({"others": [[2], [1], [], [6]]}, "pair 2: has no other"),
        ({"others": [[2], [1], [4], [6]]}, r"pair 2: a token is named twice: answers \[4\], others \[4\]"),
        ({"answers": [[1, 1], [2], [4], [5]]}, "pair 0: a token is named twice"),
        ({"places": {"X": [0, 2, 0, 0]}}, "pair 1: its place 'X' is 2, but it has 2 tokens"),
        ({"places": {"X": [0, -1, 0, 0]}}, "pair 1: its place 'X' is -1"),
        ({"answers": [[1]]}, r"given for \[1, 4\] pairs"),
        ({"side": "lef"}, "did you mean 'left'"),
        ({"labels": ["a", "b", "c", "d"], "answers": [[1], [], [4], [5]]}, "b: has no answer"),
    ],
)
def test_what_cannot_be_aligned_is_refused(change, words):
    rows = {"clean": CLEAN, "corrupted": CORRUPTED, "answers": ANSWERS, "others": OTHERS, "places": PLACES}
    with pytest.raises(InputError, match=words) as error:
        aligned(**{**rows, **change})
    assert "\n" not in str(error.value)


def test_nothing_is_no_pairs():
    with pytest.raises(InputError, match=r"given for \[0\] pairs"):
        aligned([], [], [], [], {})
    with pytest.raises(InputError, match="no pairs to concatenate"):
        concatenate([])
    with pytest.raises(InputError, match=r"parts\[1\] has the places \['END'\], parts\[0\] \['END', 'WORD'\]"):
        concatenate([four(), four()._replace(places={"END": four().places["END"]})])


def plain(**change):
    """Two sound pairs in a vocabulary of 10, changed."""
    rows = {"clean": [[1, 2], [3, 4]], "corrupted": [[1, 3], [3, 5]], "positions": [[0, 1]], "places": {"END": [1, 1]}}
    values = {**rows, "answers": [[5, 6], [7, -1]], "others": [[1], [2]], **change}
    places = {name: np.asarray(columns) for name, columns in values.pop("places").items()}
    return Pairs(places=places, **{name: np.asarray(value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clean": [[1, 2, 3], [3, 4, 5]]}, r"pairs.clean is \[2, 3\], pairs.corrupted \[2, 2\]"),
        ({"clean": [1, 2], "corrupted": [1, 3]}, r"pairs.clean is \[2\]"),
        ({"positions": [[0, 1, 2]]}, r"pairs.positions is \[1, 3\] for tokens \[2, 2\]"),
        ({"positions": [[0, 1], [0, 2]]}, "pair 1: its positions must be 0, 1, … on its tokens and -1 on padding"),
        ({"positions": [[0, 1], [-2, 0]]}, "pair 1: its positions"),
        ({"positions": [[0, 1], [-1, -1]]}, "pair 1: its positions"),
        ({"clean": [[1, 2], [10, 4]]}, "pair 1: clean has token 10: ids go from 0 to 9"),
        ({"corrupted": [[1, -1], [3, 5]]}, "pair 0: corrupted has token -1"),
        ({"corrupted": [[1, 3], [3, 4]]}, r"pair 1: clean and corrupted are the same tokens \[3, 4\]"),
        ({"positions": [[0, 1], [0, -1]], "places": {}}, r"pair 1: clean and corrupted are the same tokens \[3\]"),
        ({"answers": [[5], [10]]}, "pair 1: answers has token 10"),
        ({"others": [[-2], [2]]}, "pair 0: others has token -2"),
        ({"answers": [[5, 6], [-1, 7]]}, r"pair 1: answers is \[-1, 7\]: must be one token or more, then -1"),
        ({"answers": [[5, -1, 6], [7, 8, 9]]}, r"pair 0: answers is \[5, -1, 6\]"),
        ({"answers": [[5], [-1]]}, "pair 1: answers is"),
        ({"answers": [5, 6]}, r"pairs.answers is \[2\] for 2 pairs: must be \[B N\]"),
        ({"others": [[1]]}, r"pairs.others is \[1, 1\] for 2 pairs"),
        ({"others": [[1, 6], [2, 3]]}, "pair 0: token 6 is named twice among its answers and others"),
        ({"places": {"END": [1, 2]}}, "pair 1: its place 'END' is column 2, where it has no token"),
        ({"places": {"END": [-1, 1]}}, "pair 0: its place 'END' is column -1"),
        ({"positions": [[0, 1], [-1, 0]], "places": {"S": [0, 0]}}, "pair 1: its place 'S' is column 0"),
        ({"places": {"END": [1]}}, r"pairs.places\['END'\] is \[1\] for 2 pairs"),
    ],
)
def test_pairs_that_cannot_be_patched_are_refused(change, words):
    check_pairs(plain(), 10)
    with pytest.raises(InputError, match=words) as error:
        check_pairs(plain(**change), 10)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_nobody_gets_itself(n):
    rows = np.asarray([derangement(seed, n) for seed in range(20)])
    assert (np.sort(rows, axis=1) == np.arange(n)).all()
    assert (rows != np.arange(n)).all()
    jitted = jax.jit(derangement, static_argnums=1)
    np.testing.assert_array_equal(rows, [jitted(seed, n) for seed in range(20)])


def test_everybody_else_is_as_likely():
    rows = np.asarray(jax.vmap(lambda seed: derangement(seed, 5))(jnp.arange(4000)))
    counts = np.array([[(rows[:, i] == j).sum() for j in range(5)] for i in range(5)])
    assert (counts.diagonal() == 0).all()
    off = counts[~np.eye(5, dtype=bool)]
    assert abs(off - 1000).max() < 5 * (4000 * 0.25 * 0.75) ** 0.5
    with pytest.raises(InputError, match="n = 1: a derangement needs at least two"):
        derangement(0, 1)


def test_resampling_keeps_the_padding_and_gives_nobody_its_own():
    pairs = four()
    other = resampled(pairs, 0)
    assert unpad(other.corrupted, other.positions) == [CLEAN[2], CLEAN[3], CLEAN[0], CLEAN[1]]  # the only way
    for field in ("clean", "positions", "answers", "others"):
        np.testing.assert_array_equal(getattr(other, field), getattr(pairs, field))
    mixed = pairs._replace(positions=pairs.positions.at[3].set(jnp.array([0, 1, -1])))
    with pytest.raises(InputError, match="pair 1 is the only one with 2 tokens in these columns"):
        resampled(mixed, 0)
    with pytest.raises(InputError, match="pair 1 is the only one with 2 tokens in these columns"):
        resampled(select(pairs, [0, 1, 2]), 0)


def test_noise_lies_at_the_chosen_places_and_has_their_spread():
    W_E = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (9, 4000)) * np.arange(9)[:, None], jnp.float32)
    tokens, where = jnp.array([[1, 2, 3], [4, 5, 6]]), jnp.array([[False, False, True], [False, True, True]])
    drawn = noise(7, W_E, tokens, where, sigma=3.0)
    assert drawn.shape == (2, 3, 4000) and drawn.dtype == W_E.dtype
    assert (np.asarray(drawn)[~np.asarray(where)] == 0).all()
    want = 3.0 * np.concatenate([W_E[3], W_E[5], W_E[6]]).std()
    chosen = np.asarray(drawn)[np.asarray(where)]
    assert (abs(chosen.std(axis=1) / want - 1) < 5 / 8000**0.5).all()
    assert abs(chosen.mean()) < 5 * want / 12000**0.5
    assert abs(np.corrcoef(chosen) - np.eye(3)).max() < 5 / 4000**0.5


def test_noise_is_a_function_of_the_seed_and_proportional_to_sigma():
    with jax.enable_x64(True):
        W_E, tokens = jax.random.normal(jax.random.key(0), (9, 6), jnp.float64), jnp.array([[1, 2, 3], [4, 5, 6]])
        where = jnp.array([[True, False, True]])
        one = noise(1, W_E, tokens, where, 1.0)
        assert one.dtype == jnp.float64
        np.testing.assert_allclose(noise(1, W_E, tokens, where, 2.5), 2.5 * one, rtol=1e-14)
        jitted = jax.jit(noise)(1, W_E, tokens, where, 1.0)
        np.testing.assert_allclose(jitted, one, rtol=1e-12)
        assert (np.asarray(noise(2, W_E, tokens, where, 1.0)) != np.asarray(one))[:, [0, 2]].all()


def test_noise_is_what_an_edit_adds():
    W_E, pairs = jax.random.normal(jax.random.key(0), (10, 6)), four()
    added = noise(0, W_E, pairs.clean, marked(pairs, "WORD"))

    def embed(tokens):
        return taps.tap(W_E[tokens], "embed")

    edited = taps.edit(embed)({"embed": [taps.Edit("add", added)]}, pairs.clean)
    np.testing.assert_array_equal(edited, W_E[pairs.clean] + added)


def test_noise_somewhere():
    with pytest.raises(InputError, match="where chooses no place"):
        noise(0, jnp.ones((3, 2)), jnp.array([[1, 2]]), jnp.array([[False, False]]))
