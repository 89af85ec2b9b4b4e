"""What probes lose, and are cured of, when features are ablated: targeted probe perturbation and spurious correlation removal
(Karvonen et al. 2024, arXiv:2411.18895; SAEBench: Karvonen et al. 2025), after SHIFT (Marks et al. 2024).

    e_cf = (mean of f over examples of c - mean over the others) · (W_dec,f · w_c)         attribution of feature f to probe c
    x' = x - Σ_{f in the n with the largest e_c} f W_dec,f                                 decoded without them, error term kept

    TPP     mean_i (A_i - A_ii) - mean_{i≠j} (A_j - A_ij)     A_ij: accuracy of probe j where the features of i are ablated
    SCR     (A_ablated - A_biased) / (A_oracle - A_biased)      accuracies for the target on balanced examples of a probe that
            was fitted where target and spurious concept go together; the oracle is fitted on balanced ones

For TPP differences of means below 0 count as 0, for SCR |e| ranks, as in SAEBench; only features with an effect are ablated,
but an n beyond those that a concept has takes others whose effect is chance. A probe is linear, so what it says of x' is what
it says of x less Σ f (W_dec,f · w): no x' is made.

Caution: an audit of SAEBench found that both fail at their usual settings: TPP fell as dictionaries were trained longer, and
SCR at large n went against their quality where it was known. It advises to compare dictionaries by neither (Chanin 2026,
arXiv:2605.18229). They are here for comparison with published figures. On a dictionary of the true features TPP is 1/2 and SCR
1, as they should be (see the calibration); that says nothing of how they rank imperfect ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax.dictionaries.measures.sparse_probing import Labelled, dense_probe, mean_difference
from interp_jax.probes.linear import Linear, predict


class Perturbation(NamedTuple):
    """Targeted probe perturbation, for each number n of ablated features.

    Attributes:
      clean: accuracy of each probe.
      ablated: [n C C], A_ij.
      intended, unintended: the two means of the score.
      score: their difference.
    """

    clean: Float[Array, " C"]
    ablated: Float[Array, "n C C"]
    intended: Float[Array, " n"]
    unintended: Float[Array, " n"]
    score: Float[Array, " n"]


class Removal(NamedTuple):
    """Spurious correlation removal, for each number n of ablated features; accuracies for the target, balanced."""

    biased: Float[Array, ""]
    oracle: Float[Array, ""]
    ablated: Float[Array, " n"]
    score: Float[Array, " n"]


def attributions(probe: Linear, data: Labelled, W_dec: Float[Array, "F D"]) -> Float[Array, "C F"]:
    """E, of all features and concepts."""
    return mean_difference(data.f, data.there) * (probe.weights @ W_dec.T)


def strongest(effects: Float[Array, "C F"], ns: Int[Array, " n"], most: int) -> Bool[Array, "n C F"]:
    """The n features with the largest positive effects, for every n, which is at most `most`."""
    values, chosen = jax.lax.top_k(effects, most)
    taken = (jnp.arange(most) < ns[:, None, None]) & (values > 0)
    mark = lambda chosen, taken: jnp.zeros(effects.shape[1], bool).at[chosen].set(taken)
    return jax.vmap(jax.vmap(mark), in_axes=(None, 0))(chosen, taken)


def perturb(
    train: Labelled,
    test: Labelled,
    W_dec: Float[Array, "F D"],
    ns: Int[Array, " n"],
    most: int,
    penalty: Float[Array, ""] | float = 1.0,
) -> Perturbation:
    """Targeted probe perturbation.

    Args:
      train: what probes are fitted and features chosen on.
      test: what accuracies are of; every concept weighs as much as its absence.
      W_dec: the decoder's rows.
      ns: numbers of features, at most `most`.
      most: the largest.
      penalty: of the logistic regressions.
    """
    probes = jax.vmap(lambda there: dense_probe(train.x, there, penalty))(train.there)
    differences = jnp.maximum(mean_difference(train.f, train.there), 0.0)
    masks = strongest(differences * (probes.weights @ W_dec.T), ns, most)
    z = predict(probes, test.x).T
    clean = balanced(z > 0, test.there)
    after = lambda mask: balanced(z - taken(test.f, mask, W_dec, probes) > 0, test.there)
    ablated = jax.lax.map(jax.vmap(after), masks)
    drops, own = clean - ablated, jnp.eye(len(clean), dtype=bool)
    intended = jnp.where(own, drops, 0.0).sum((1, 2)) / own.sum()
    unintended = jnp.where(own, 0.0, drops).sum((1, 2)) / jnp.maximum((~own).sum(), 1)
    return Perturbation(clean, ablated, intended, unintended, intended - unintended)


def remove(
    biased: Labelled,
    even: Labelled,
    test: Labelled,
    W_dec: Float[Array, "F D"],
    ns: Int[Array, " n"],
    most: int,
    penalty: Float[Array, ""] | float = 1.0,
) -> Removal:
    """Spurious correlation removal, of two concepts: the target, and the spurious one.

    Args:
      biased: examples in which both are there, or none.
      even: examples with all four cases; the spurious concept's probe is fitted on them, and the oracle.
      test: more of these, on which accuracies are measured.
      W_dec: the decoder's rows.
      ns: numbers of features, at most `most`.
      most: the largest.
      penalty: of the logistic regressions.
    """
    fit = lambda data, there: jax.vmap(lambda there: dense_probe(data.x, there, penalty))(there)
    probe, fair = fit(biased, biased.there[:1]), fit(even, even.there)
    oracle, spurious = (Linear(fair.weights[one], fair.bias[one]) for one in (slice(1), slice(1, None)))
    effects = jnp.abs(attributions(spurious, even._replace(there=even.there[1:]), W_dec))
    masks = strongest(effects, ns, most)[:, 0]
    z, target = predict(probe, test.x).T, test.there[:1]
    accuracy = lambda z: balanced(z > 0, target)[0]
    ablated = jax.lax.map(lambda mask: accuracy(z - taken(test.f, mask, W_dec, probe)), masks)
    before, best = accuracy(z), accuracy(predict(oracle, test.x).T)
    gap = best - before
    return Removal(
        before, best, ablated, jnp.where(gap > 0, (ablated - before) / jnp.where(gap > 0, gap, 1.0), jnp.nan)
    )


def taken(
    f: Float[Array, "N F"], mask: Bool[Array, " F"], W_dec: Float[Array, "F D"], probe: Linear
) -> Float[Array, "C N"]:
    """By how much what the probes say falls where masked features are ablated."""
    shares = jnp.where(mask, probe.weights @ W_dec.T, 0.0)
    return jnp.einsum("cf,nf->cn", shares, f, precision="highest")


def balanced(said: Bool[Array, "C N"], there: Bool[Array, "C N"]) -> Float[Array, " C"]:
    """Balanced accuracy: the mean of the shares of examples with and without the concept that are told right."""
    share = lambda right, of: (right & of).sum(1) / jnp.maximum(of.sum(1), 1)
    return (share(said, there) + share(~said, ~there)) / 2
