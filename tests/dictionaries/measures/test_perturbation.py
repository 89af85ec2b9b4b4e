"""Perturbed and cured probes: planted concepts, and ablation by decoding, in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.data.planted_dictionaries import concepts, opposed
from interp_jax.dictionaries.measures.perturbation import attributions, perturb, remove, strongest, taken
from interp_jax.dictionaries.measures.sparse_probing import Labelled
from interp_jax.probes.linear import Linear

RNG = np.random.default_rng(0)
NS = jnp.array([1, 2, 3])


def labelled(one):
    return Labelled(one.x, one.f, one.labels)


def test_ablating_a_concept_costs_its_own_probe_all_and_others_nothing():
    """Without its two features a concept is never seen: its probe says no to all, a guess. Without one, half of that is lost.

    The third feature is one whose difference of means is above 0 by chance; another concept's probe may lose by it.
    """
    common, *each = jax.random.split(jax.random.key(2), 3)
    train, test = (concepts(jnp.stack([common, key]), 600, 3, 2, others=4, noise=0.05) for key in each)
    got = jax.jit(perturb, static_argnames="most")(labelled(train), labelled(test), train.W_dec, NS, most=3)
    np.testing.assert_allclose(got.clean, 1, atol=1e-6)
    np.testing.assert_allclose(got.intended, (0.25, 0.5, 0.5), atol=0.03)
    np.testing.assert_allclose(got.unintended[:2], 0, atol=0.01)
    np.testing.assert_allclose(got.score, np.asarray(got.intended) - np.asarray(got.unintended), atol=1e-6)


def test_a_probe_is_cured_of_a_concept_that_went_with_its_own():
    """The probe follows the stronger concept, and guesses where it is independent; both of its features have to go."""
    common, *each = jax.random.split(jax.random.key(0), 4)
    biased, even, test = (
        opposed(jnp.stack([common, key]), 600, together, noise=0.1)
        for key, together in zip(each, (True, False, False), strict=True)
    )
    got = jax.jit(remove, static_argnames="most")(*map(labelled, (biased, even, test)), biased.W_dec, NS[:2], most=2)
    np.testing.assert_allclose(got.biased, 0.5, atol=0.05)
    np.testing.assert_allclose(got.oracle, 1, atol=1e-3)
    np.testing.assert_allclose(got.ablated[1], 1, atol=0.01)
    np.testing.assert_allclose(got.score[1], 1, atol=0.02)
    assert got.score[0] < 0.9


def test_what_is_taken_is_what_decoding_without_features_takes():
    f, W, w, b = RNG.normal(size=(9, 5)), RNG.normal(size=(5, 4)), RNG.normal(size=(2, 4)), RNG.normal(size=2)
    x, b_dec, mask = RNG.normal(size=(9, 4)), RNG.normal(size=4), np.array([1, 0, 1, 0, 0], bool)
    error = x - (f @ W + b_dec)
    without = (np.where(mask, 0, f) @ W + b_dec) + error
    got = taken(jnp.float32(f), jnp.array(mask), jnp.float32(W), Linear(jnp.float32(w), jnp.float32(b)))
    np.testing.assert_allclose(got, w @ (x - without).T, atol=1e-5)


def test_attributions_are_first_order_effects_and_the_strongest_are_chosen():
    there = jnp.array(RNG.random((2, 40)) < 0.5)
    f, W, w = RNG.random((40, 5)), RNG.normal(size=(5, 3)), RNG.normal(size=(2, 3))
    data = Labelled(jnp.zeros((40, 3)), jnp.float32(f), there)
    got = attributions(Linear(jnp.float32(w), jnp.zeros(2)), data, jnp.float32(W))
    want = [
        [(f[t, i].mean() - f[~t, i].mean()) * (W[i] @ w[c]) for i in range(5)] for c, t in enumerate(np.asarray(there))
    ]
    np.testing.assert_allclose(got, want, atol=1e-5)
    masks = strongest(jnp.array([[3.0, -1, 2, 0], [-1, -2, -3, 4]]), jnp.array([1, 3]), 3)
    np.testing.assert_array_equal(masks[0], [[1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(masks[1], [[1, 0, 1, 0], [0, 0, 0, 1]])  # nothing without an effect
