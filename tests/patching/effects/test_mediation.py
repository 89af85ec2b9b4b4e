"""Effects of mediation models whose answer is written down, of the name mover with its backup, and beside random nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.models.name_mover_circuit import name_mover_circuit
from interp_jax.models.name_mover_truth import MOVER
from interp_jax.patching.effects.mediation import (
    against_random,
    assess,
    mean_effects,
    mediation_effects,
    normalised_effects,
)
from tests.patching.effects.binomial import N_SEEDS, check_rate

A, B, C, D = 0.7, 2.0, -0.5, 1.5  # of the linear model


def linear_model(noise, treated, mediator_treated):
    """y = B m + C x + D x m + noise, with m = A x + 1: the mediator reads x, and so does the rest."""
    m = A * mediator_treated + 1
    return B * m + C * treated + D * treated * m + noise


def test_effects_of_a_linear_model_are_pearls():
    with jax.enable_x64(True):
        noise = jnp.asarray(np.random.default_rng(0).normal(size=50))
        runs = [linear_model(noise, *x) for x in ((1, 1), (0, 0), (0, 1), (1, 0))]
        clean, corrupted, denoised, noised = runs
        effects = mediation_effects(clean, corrupted, denoised[None], noised[None])
        expected = {
            "indirect": A * B, "direct": C + D, "interaction": A * D, "total": A * B + C + D + A * D,
            "total_indirect": A * (B + D), "total_direct": C + D + A * D,
        }  # fmt: skip
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(effects, name), np.full_like(getattr(effects, name), value), atol=1e-12)
            share = getattr(normalised_effects(effects), name)
            np.testing.assert_allclose(share, np.full(share.shape, value / expected["total"]), atol=1e-12)


def test_both_decompositions_add_up_for_any_metric_and_every_example():
    with jax.enable_x64(True):
        draw = np.random.default_rng(1)
        clean, corrupted = (jnp.asarray(draw.normal(size=7)) for _ in range(2))
        denoised, noised = (jnp.asarray(draw.normal(size=(2, 3, 7))) for _ in range(2))
        e = mediation_effects(clean, corrupted, denoised, noised)
        assert e.total.shape == (7,) and e.indirect.shape == e.interaction.shape == (2, 3, 7)
        for parts in (
            (e.direct, e.total_indirect),
            (e.indirect, e.total_direct),
            (e.direct, e.indirect, e.interaction),
        ):
            np.testing.assert_allclose(sum(parts), np.broadcast_to(e.total, (2, 3, 7)), atol=1e-12)


def test_shares_divide_means_and_not_examples():
    """One example without any total effect leaves the shares finite: (1 + 1) / (4 + 0)."""
    total, indirect = jnp.array([4.0, 0.0]), jnp.array([[1.0, 1.0]])
    shares = normalised_effects(mediation_effects(total, jnp.zeros(2), indirect, jnp.zeros((1, 2))))
    assert float(shares.indirect[0]) == 0.5 and float(shares.total) == 1.0


def test_a_backup_shows_as_a_negative_interaction():
    """The mover restores all (NIE = 1) and is missed by none (TIE = 0), which no other head of the circuit is."""
    expected = name_mover_circuit(3, 7)[2].expected["filler"].heads["z"]
    denoised, noised = (jnp.asarray(way)[..., None] for way in expected)
    means = mean_effects(mediation_effects(jnp.ones(1), jnp.zeros(1), denoised, noised))
    assert float(means.indirect[MOVER]) == 1 and float(means.total_indirect[MOVER]) == 0
    np.testing.assert_array_equal(np.argwhere(means.interaction), [MOVER])
    assert float(means.interaction[MOVER]) == -1


def test_an_assessment_says_what_its_parts_say():
    effects = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4, 10)), jnp.float32).at[1, 2].add(3.0)
    seen = assess(effects, seed=3)
    assert all(part.shape == (3, 4) for part in seen)
    np.testing.assert_allclose(seen.mean, effects.mean(-1), atol=1e-6)
    assert bool((seen.low < seen.mean).all() and (seen.mean < seen.high).all())
    np.testing.assert_array_equal(np.argwhere(seen.family_wise < 0.05), [[1, 2]])
    for corrected in (seen.family_wise, seen.holm, seen.false_discovery):
        assert bool((corrected >= seen.p).all())


def test_size_and_share_against_random_nodes():
    random = jnp.array([[1.0, 3.0], [-3.0, -1.0], [4.0, 4.0]])  # means 2, -2, 4
    seen = against_random(jnp.array([[[5.0, 5.0], [-2.0, -2.0]]]), random)
    spread = np.std([2, -2, 4], ddof=1)
    np.testing.assert_allclose(seen.size, [[(5 - 4 / 3) / spread, (-2 - 4 / 3) / spread]], rtol=1e-6)
    np.testing.assert_allclose(seen.share, [[1 / 4, 4 / 4]])
    still = against_random(jnp.array([[1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]]), jnp.zeros((9, 2)))
    np.testing.assert_array_equal(still.size, [np.inf, 0, -np.inf])
    np.testing.assert_allclose(still.share, [0.1, 1.0, 0.1])


def test_a_node_like_the_random_ones_is_seldom_called():
    """The share is at most α in at most α of the seeds: of 20 exchangeable nodes each is the strongest once in 20."""
    draw = randomness.uniform("counter", 0, "effects", 0, (N_SEEDS, 20, 6)) - 0.4
    share = jax.vmap(lambda nodes: against_random(nodes[0], nodes[1:]).share)(draw)
    check_rate(np.asarray(share <= 0.05 + 1e-6), 0.05)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (([4], [3], [2, 4], [2, 4]), "the corrupted metric is of 3 examples, the clean one of 4"),
        (([4], [4], [2, 5], [2, 4]), "the denoised metric is of 5 examples, the clean one of 4"),
        (([4], [4], [2, 4], [3, 4]), "denoised cells are (2,), noised ones (3,): not the same"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(runs, message):
    with pytest.raises(InputError) as error:
        mediation_effects(*map(jnp.ones, runs))
    assert str(error.value) == message


def test_bad_values_are_named():
    with pytest.raises(InputError, match="the metric 'noised' is nan on example 1, cell .0,."):
        mediation_effects(jnp.ones(2), jnp.ones(2), jnp.ones((1, 2)), jnp.array([[1.0, jnp.nan]]))
    with pytest.raises(InputError, match="the mean total effect is 0"):
        normalised_effects(mediation_effects(jnp.ones(2), jnp.ones(2), jnp.ones((1, 2)), jnp.ones((1, 2))))
    with pytest.raises(InputError, match="1 random nodes have no spread"):
        against_random(jnp.ones((3, 2)), jnp.ones((1, 2)))
