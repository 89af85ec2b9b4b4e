"""Generation with a cache equals computing everything again for every token, padded or not, edited or not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.generation import Sampling, generate, sample
from tests.models.transformer_oracle import CAUSAL, FAMILY, random_model

KEY = jax.random.key(0)
write = jax.jit(generate, static_argnums=(2, 3), static_argnames=("stop",))


def rewrite(model, prompts, n_new):
    """Greedy tokens, computed anew for every token; no position sees a later one, so what fills the rows is of no account."""
    length = prompts.shape[1]
    rows = np.zeros((len(prompts), length + n_new), np.int32)
    rows[:, :length] = prompts
    for n in range(length, length + n_new):
        rows[:, n] = model(rows)[:, n - 1].argmax(-1)
    return rows[:, length:]


@pytest.mark.parametrize("name", CAUSAL)
def test_greedy_equals_no_cache(name):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    model = jax.jit(lambda rows: transformer.apply(params, rows, cfg))
    got = write(params, tokens[:, :3], cfg, 5, KEY)
    np.testing.assert_array_equal(got, rewrite(model, tokens[:, :3], 5))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["mlp", "sandwich, capped, local layers", "no norm, relative"])
def test_prompts_of_unequal_length_go_on_as_they_would_alone(name, side):
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    lengths = (1, 3, 4)
    prompts, positions = np.full((3, 4), 7, np.int32), np.full((3, 4), -1, np.int32)
    for row, n in enumerate(lengths):
        place = slice(0, n) if side == "right" else slice(4 - n, 4)
        prompts[row, place], positions[row, place] = tokens[row, :n], np.arange(n)
    together = write(params, prompts, cfg, 5, KEY, positions=positions)
    for row, n in enumerate(lengths):
        alone = write(params, tokens[row : row + 1, :n], cfg, 5, KEY)
        np.testing.assert_array_equal(together[row], alone[0])


def test_steering_while_generating_equals_the_edited_model():
    """Edits act on every pass, over the prompt and over each new token; on logits too, and at a traced layer."""
    cfg = FAMILY["mlp"]
    params, tokens = random_model(cfg)
    direction = jax.random.normal(jax.random.key(5), (cfg.d_model,))
    ban = jnp.where(jnp.arange(cfg.d_vocab) == 4, -1e6, 0.0)

    @jax.jit
    def compare(layer):
        edits = {"blocks.resid_post": taps.Edit("add", 3 * direction, layer=layer), "logits": taps.Edit("add", ban)}
        rows = generate(params, tokens[:, :3], cfg, 5, KEY, edits=edits)
        whole = jnp.concatenate([tokens[:, :3], rows], 1)
        edited = taps.edit(lambda t: transformer.apply(params, t, cfg))(edits, whole)
        return rows, edited[:, 2:-1].argmax(-1)

    plain = write(params, tokens[:, :3], cfg, 5, KEY)
    for layer in range(2):
        got, expected = compare(layer)
        np.testing.assert_array_equal(got, expected)
        assert (got != 4).all() and (got != plain).any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_steering_goes_with_padding_sampling_and_stopping(side):
    """Rows of unequal length, edited, sampled with options of their own, as each would be alone."""
    cfg = FAMILY["sandwich, capped, local layers"]
    params, tokens = random_model(cfg)
    direction = 2 * jax.random.normal(jax.random.key(6), (cfg.d_model,))
    edits = {"blocks.resid_post": taps.Edit("add", direction, layer=0)}
    prompts, positions = np.full((3, 4), 7, np.int32), np.full((3, 4), -1, np.int32)
    for row, n in enumerate((1, 3, 4)):
        place = slice(0, n) if side == "right" else slice(4 - n, 4)
        prompts[row, place], positions[row, place] = tokens[row, :n], np.arange(n)
    sampling = Sampling(jnp.array([[0.0], [0.0], [1.0]]), top_k=5, top_p=0.9)
    options = {"sampling": sampling, "edits": edits}
    together = np.asarray(generate(params, prompts, cfg, 5, KEY, positions=positions, **options))
    for row in (0, 1):  # greedy, so that they do not depend on the batch's noise
        alone = generate(params, tokens[row : row + 1, : (1, 3)[row]], cfg, 5, KEY, edits=edits)
        np.testing.assert_array_equal(together[row], alone[0])
    stop = int(together[2, 1])
    stopped = np.asarray(generate(params, prompts, cfg, 5, KEY, positions=positions, stop=(stop,), **options))
    first = int(np.flatnonzero(together[2] == stop)[0])
    np.testing.assert_array_equal(stopped[2, : first + 1], together[2, : first + 1])
    assert (stopped[2, first:] == stop).all()


def test_an_edit_around_generate_is_refused_where_it_would_act_in_one_pass_only():
    cfg = FAMILY["mlp"]
    params, tokens = random_model(cfg)
    run = lambda p: generate(params, p, cfg, 4, KEY)
    with pytest.raises(taps.TapError, match=r"blocks\.resid_post"):
        taps.edit(run)({"blocks.resid_post": taps.Edit("scale", 0.0)}, tokens[:, :3])
    steps = jnp.tile(1e6 * jax.nn.one_hot(5, cfg.d_vocab), (4, 1))
    assert (taps.edit(run)({"logits": taps.Edit("add", steps)}, tokens[:, :3]) == 5).all()


def test_a_row_that_stops_repeats_its_stop_token():
    cfg = FAMILY["mlp"]
    params, tokens = random_model(cfg)
    plain = np.asarray(write(params, tokens[:, :3], cfg, 6, KEY))
    stop = int(plain[0, 2])
    stopped = np.asarray(write(params, tokens[:, :3], cfg, 6, KEY, stop=(stop,)))
    for before, after in zip(plain, stopped, strict=True):
        ends = np.flatnonzero(before == stop)
        first = ends[0] if len(ends) else 6
        np.testing.assert_array_equal(after[: first + 1], before[: first + 1])
        assert (after[first:] == stop).all()


def frequencies(logits, sampling, n=40_000):
    draws = sample(jnp.tile(jnp.asarray(logits), (n, 1)), KEY, sampling)
    return np.bincount(draws, minlength=len(logits)) / n


def test_samples_follow_the_softmax():
    logits = np.log(np.array([0.1, 0.2, 0.7], np.float32))
    np.testing.assert_allclose(frequencies(logits, Sampling(1.0)), [0.1, 0.2, 0.7], atol=0.01)
    squared = np.array([0.01, 0.04, 0.49])
    np.testing.assert_allclose(frequencies(logits, Sampling(0.5)), squared / squared.sum(), atol=0.01)


def test_top_k_and_top_p_leave_the_most_likely():
    logits = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))
    np.testing.assert_allclose(frequencies(logits, Sampling(1.0, top_k=2)), [0, 4 / 7, 0, 3 / 7], atol=0.01)
    np.testing.assert_allclose(frequencies(logits, Sampling(1.0, top_p=0.65)), [0, 4 / 7, 0, 3 / 7], atol=0.01)
    np.testing.assert_allclose(frequencies(logits, Sampling(1.0, top_p=0.75)), [0, 4 / 9, 2 / 9, 3 / 9], atol=0.01)
    both = Sampling(1.0, top_k=3, top_p=0.5)  # of the three, 4/9 is less than half, 7/9 is not
    np.testing.assert_allclose(frequencies(logits, both), [0, 4 / 7, 0, 3 / 7], atol=0.01)
    np.testing.assert_allclose(frequencies(logits, Sampling(1.0, top_p=0.0)), [0, 1, 0, 0])
    ties = np.zeros(4, np.float32)
    np.testing.assert_allclose(frequencies(ties, Sampling(1.0, top_k=2)), [0.5, 0.5, 0, 0], atol=0.01)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_of_half_precision_are_sampled_as_others_are(dtype):
    """Noise in bfloat16 has 128 values, and sums of many small probabilities stand still: ties would go to the first ids."""
    logits, n = jnp.zeros((5_000, 4_096), dtype), 4_096
    draws = np.asarray(sample(logits, KEY, Sampling(1.0)))
    assert abs(draws.mean() - (n - 1) / 2) < 5 * n / (12 * len(draws)) ** 0.5
    half = np.asarray(sample(logits[:1_000], KEY, Sampling(1.0, top_p=0.5)))
    assert 0.9 * n / 2 < half.max() < n / 2


def test_each_prompt_has_its_own_temperature_and_nucleus():
    logits = jnp.tile(jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3])), (3000, 1))
    column = lambda values: jnp.repeat(jnp.array(values), 1000)[:, None]
    draws = np.asarray(sample(logits, KEY, Sampling(column([0.0, 1.0, 1.0]), 0, column([1.0, 0.65, 1.0]))))
    assert (draws[:1000] == 1).all()
    assert set(draws[1000:2000]) == {1, 3} and set(draws[2000:]) == {0, 1, 2, 3}


def test_a_model_without_positions_goes_on_beyond_its_context():
    cfg = FAMILY["no positions"]
    params, tokens = random_model(cfg)
    model = jax.jit(lambda rows: transformer.apply(params, rows, cfg))
    got = write(params, tokens[:, :3], cfg, 12, KEY)
    np.testing.assert_array_equal(got, rewrite(model, tokens[:, :3], 12))


@pytest.mark.parametrize("name", ["mlp", "no norm, relative"])
def test_what_cannot_be_raised_inside_jit_writes_no_token(name):
    """A prompt with an unknown id, and one that runs out of positions; the others go on as they would."""
    cfg = FAMILY[name]
    params, tokens = random_model(cfg)
    plain = np.asarray(write(params, tokens[:, :3], cfg, 4, KEY))
    unknown = np.asarray(write(params, tokens[:, :3].at[1, 2].set(11), cfg, 4, KEY))
    assert (unknown[1] == -1).all()
    np.testing.assert_array_equal(unknown[[0, 2]], plain[[0, 2]])
    places = jnp.array(
        [[0, 1, 2], [4, 5, 6], [0, 1, 2]]
    )  # there is room for 7: after 6 there is no place to go on from
    late = np.asarray(write(params, tokens[:, :3], cfg, 4, KEY, positions=places))
    assert (late[1, 1:] == -1).all() and late[1, 0] >= 0
    np.testing.assert_array_equal(late[[0, 2]], plain[[0, 2]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_new": 8}, "10 positions are more than .*n_context = 9"),
        ({"n_new": 0}, "n_new = 0"),
        ({"positions": np.array([[0, 1, 2], [-1, -1, -1], [0, 1, 2]])}, "prompt 1 has no tokens"),
        ({"positions": np.array([[0, 1, 2]]), "n_new": 8}, "10 positions"),
        ({"prompts": np.full((3, 3), 11)}, "token 11 in row 0"),
    ],
)
def test_impossible_requests_are_refused(change, words):
    cfg = FAMILY["mlp"]
    params, tokens = random_model(cfg)
    arguments = {"prompts": tokens[:, :3], "n_new": 2, "key": KEY, "cfg": cfg} | change
    with pytest.raises(InputError, match=words):
        generate(params, **arguments)
    with pytest.raises(InputError, match="no cache"):
        generate(params, tokens, dataclasses.replace(cfg, causal=False), 2, KEY)
