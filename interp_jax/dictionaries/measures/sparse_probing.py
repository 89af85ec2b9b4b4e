"""k-sparse probing: how well k features tell a concept (Gurnee et al. 2023, arXiv:2305.01610), beside what the activation
itself tells.

    d_f = mean of f over the concept's examples, less that over the others                               [C F]
    the k features with the largest |d_f| are chosen; logistic regression is fitted on them alone

Everything is fitted on one set of examples and scored on another. Two controls: the probe of the whole activation, which is all
there is to be read, and the same k-sparse probes fitted and scored on shuffled labels (after Hewitt and Liang 2019): what can
be had without knowing anything.

k is traced, up to `most`; concepts and values of k are members of one program. Features are a matrix [N, F]: a concept needs
some thousands of examples, not a stream.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from interp_jax.probes import k_sparse, logistic
from interp_jax.probes.linear import Linear, Scores, predict, scored


class Labelled(NamedTuple):
    """Examples: their activations, what a dictionary finds in them, and which concepts are there."""

    x: Float[Array, "N D"]
    f: Float[Array, "N F"]
    there: Bool[Array, "C N"]


class SparseProbes(NamedTuple):
    """Probes of k features each, k up to K: row K of `weights` beyond a member's k is 0."""

    features: Int[Array, "C K"]
    weights: Float[Array, "C n K"]
    bias: Float[Array, "C n"]


class SparseProbing(NamedTuple):
    """Scores on held-out examples.

    Attributes:
      features: the `most` chosen ones of each concept, best first.
      sparse: [C n], by k.
      dense: [C], of the activation itself.
      shuffled: [C n], of probes of shuffled labels, on shuffled labels.
    """

    features: Int[Array, "C K"]
    sparse: Scores
    dense: Scores
    shuffled: Scores


def mean_difference(f: Float[Array, "N F"], there: Bool[Array, "C N"]) -> Float[Array, "C F"]:
    """D, of all concepts; 0 where a concept has no examples, or only such."""
    return jax.vmap(lambda y: k_sparse.mean_difference(f, y, jnp.ones(len(f), f.dtype)))(there)


def sparse_probes(
    f: Float[Array, "N F"],
    there: Bool[Array, "C N"],
    features: Int[Array, "C K"],
    ks: Int[Array, " n"],
    penalty: Float[Array, ""] | float = 1.0,
) -> SparseProbes:
    """Logistic regressions on the first k of the chosen features, for every k of `ks`."""
    w = jnp.ones(len(f), f.dtype)
    fit = lambda features, y, k: k_sparse.refit(features, f, y, w, k_sparse.Hypers(k, penalty))
    of_ks = jax.vmap(fit, in_axes=(None, None, 0))
    probes = jax.vmap(of_ks, in_axes=(0, 0, None))(features, there, ks)
    return SparseProbes(features, probes.weights, probes.bias)


def dense_probe(x: Float[Array, "N D"], there: Bool[Array, " N"], penalty: Float[Array, ""] | float = 1.0) -> Linear:
    """Logistic regression on all that is given."""
    return logistic.fit(None, x, there.astype(x.dtype), jnp.ones(len(x), x.dtype), logistic.Hypers(penalty))


def say(probes: SparseProbes, f: Float[Array, "N F"]) -> Bool[Array, "C n N"]:
    """What the probes say of examples."""
    own = lambda features, weights, bias: predict(Linear(weights, bias), f[:, features]).T > 0
    return jax.vmap(own)(*probes)


def sparse_probing(
    key: Key[Array, ""],
    train: Labelled,
    test: Labelled,
    ks: Int[Array, " n"],
    most: int,
    penalty: Float[Array, ""] | float = 1.0,
) -> SparseProbing:
    """All concepts, all k, and the controls.

    Args:
      key: of the shuffling.
      train: what is chosen and fitted on.
      test: what is scored.
      ks: numbers of features, at most `most`.
      most: the largest.
      penalty: of the logistic regressions.
    """
    keys, n_concepts = jax.random.split(key), len(train.there)
    true_and_shuffled = lambda key, there: jnp.concatenate([there, shuffle(key, there)])
    train_there, test_there = map(true_and_shuffled, keys, (train.there, test.there))
    features = jax.lax.top_k(jnp.abs(mean_difference(train.f, train_there)), most)[1]
    said = say(sparse_probes(train.f, train_there, features, ks, penalty), test.f)
    sparse = scored(said, test_there[:, None])
    dense = jax.vmap(lambda there: dense_probe(train.x, there, penalty))(train.there)
    of_true, of_shuffled = (
        Scores(*(x[part] for x in sparse)) for part in (slice(n_concepts), slice(n_concepts, None))
    )
    of_dense = scored(predict(dense, test.x).T > 0, test.there)
    return SparseProbing(features[:n_concepts], of_true, of_dense, of_shuffled)


def shuffle(key: Key[Array, ""], there: Bool[Array, "C N"]) -> Bool[Array, "C N"]:
    """The labels of every concept in an order of its own."""
    return jax.random.permutation(key, there, axis=1, independent=True)
