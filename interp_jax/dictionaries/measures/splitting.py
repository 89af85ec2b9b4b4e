"""Splitting and absorption where features are not known, but labels are: the first-letter task (Chanin et al. 2024,
arXiv:2409.14507; SAEBench: Karvonen et al. 2025, arXiv:2503.09532). Each example has one label, a token its first letter.

    p_c         direction of a logistic probe of the activation for label c, of length 1
    F1_c(k)     of the k-sparse probe for c on held-out examples; its features are those with the largest difference of means
    main(c)     the first 1 + s features, where s is how often in a row one more raises F1 by more than τ:  s is the splitting

    absorbed    an example of c, found by the probe, on which no main feature fires, and where the feature f with the largest
                projection  f · (W_dec,f · p_c)  is one of cos(W_dec,f, p_c) >= `least_cosine`, and has at least the share
                `least_share` of the example's own projection x · p_c, which is positive
    absorption rate of c = absorbed / examples of c found by the probe

Thresholds are those of the paper: τ = .03, cosine .025, share .4. The paper ranks features by an L1-penalised probe; the
difference of means is used for k-sparse probes everywhere here. x · p_c is about 0, so activations with a large mean should be
centred. Where the true features themselves are known, `absorption` asks them without any probe.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax.dictionaries.encoders import unit_rows
from interp_jax.dictionaries.measures.sparse_probing import dense_probe, mean_difference, say, sparse_probes
from interp_jax.probes.linear import Scores, predict, scored


class Thresholds(NamedTuple):
    """See the module; all may be traced."""

    rise: Float[Array, ""] | float = 0.03
    least_cosine: Float[Array, ""] | float = 0.025
    least_share: Float[Array, ""] | float = 0.4


PUBLISHED = Thresholds()


class Lettered(NamedTuple):
    """Examples with one label each, a number from 0."""

    x: Float[Array, "N D"]
    f: Float[Array, "N F"]
    label: Int[Array, " N"]


class Split(NamedTuple):
    """Of every label.

    Attributes:
      features: the `most` candidates, best first; the first `n_main` are the main ones.
      n_main: 1 + s.
      f1: [C K], of k-sparse probes.
      dense: of the probe of the activation.
      found: held-out examples of the label that this probe finds.
      absorbed: how many of these are absorbed.
      absorber: [C F], in how many each feature is what absorbs.
    """

    features: Int[Array, "C K"]
    n_main: Int[Array, " C"]
    f1: Float[Array, "C K"]
    dense: Scores
    found: Int[Array, " C"]
    absorbed: Int[Array, " C"]
    absorber: Int[Array, "C F"]

    @property
    def rate(self) -> Float[Array, " C"]:
        """Absorption rate; 0 where the probe finds nothing."""
        return self.absorbed / jnp.maximum(self.found, 1)


def split(
    train: Lettered,
    test: Lettered,
    W_dec: Float[Array, "F D"],
    n_labels: int,
    most: int = 10,
    penalty: Float[Array, ""] | float = 1.0,
    thresholds: Thresholds = PUBLISHED,
) -> Split:
    """Splitting and absorption of every label.

    Args:
      train: what probes are fitted on.
      test: what they are scored on, and where absorption is counted.
      W_dec: the decoder's rows.
      n_labels: C.
      most: K, the largest number of features of a k-sparse probe.
      penalty: of the logistic regressions.
      thresholds: see the module.
    """
    there = [data.label == jnp.arange(n_labels)[:, None] for data in (train, test)]
    dense = jax.vmap(lambda there: dense_probe(train.x, there, penalty))(there[0])
    features = jax.lax.top_k(mean_difference(train.f, there[0]), most)[1]
    probes = sparse_probes(train.f, there[0], features, 1 + jnp.arange(most), penalty)
    f1 = scored(say(probes, test.f), there[1][:, None]).f1
    n_main = main_features(f1, thresholds.rise)
    main = jax.vmap(lambda chosen, n: jnp.zeros(len(W_dec), bool).at[chosen].set(jnp.arange(most) < n))(
        features, n_main
    )
    said = predict(dense, test.x).T > 0
    found = said & there[1]
    absorber = jax.vmap(lambda p, own, found: absorbers(test, W_dec, p, own, found, thresholds))
    counts = absorber(unit_rows(dense.weights), main, found)
    return Split(features, n_main, f1, scored(said, there[1]), found.sum(1), counts.sum(1), counts)


def main_features(f1: Float[Array, "C K"], rise: Float[Array, ""] | float) -> Int[Array, " C"]:
    """How many features are main ones: the first, and those after it as long as each raises F1 by more than `rise`."""
    rises = f1[:, 1:] - f1[:, :-1] > rise
    return 1 + jnp.cumprod(rises, axis=1).sum(1)


def absorbers(
    data: Lettered,
    W_dec: Float[Array, "F D"],
    direction: Float[Array, " D"],
    main: Bool[Array, " F"],
    found: Bool[Array, " N"],
    thresholds: Thresholds,
) -> Int[Array, " F"]:
    """Of one label: in how many of the examples that were found each feature absorbs.

    Args:
      data: examples.
      W_dec: the decoder's rows.
      direction: p, of length 1.
      main: the main features.
      found: the examples to look at.
      thresholds: see the module.
    """
    cosine, along = unit_rows(W_dec) @ direction, data.x @ direction
    silent = ~((data.f != 0) & main).any(1)
    projections = data.f * (W_dec @ direction)
    top = projections.argmax(1)
    large = (projections.max(1) >= thresholds.least_share * along) & (along > 0)
    absorbed = found & silent & large & (cosine[top] >= thresholds.least_cosine)
    return jnp.zeros(len(W_dec), jnp.int32).at[top].add(absorbed.astype(jnp.int32))
