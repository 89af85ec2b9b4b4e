"""What a feature stands for, in words that somebody can be wrong about: descriptions, and scores of these (Paulo et al. 2024,
"Automatically Interpreting Millions of Features in Large Language Models", arXiv:2410.13928).

    a describer   examples of a feature -> a description, of any type
    a judge       description, contexts (tokens, and marks on some of them or None) -> for each the probability of "yes"

    detection     which contexts does the feature fire in? It does in half of them, from every quantile of its largest
                  activation in a context, and is silent in the others; nothing is marked
    fuzzing       which contexts are marked rightly? In half the tokens are marked that it fires on; in the others it is silent,
                  and as many tokens are marked at random as in one of the first

Both are told by balanced accuracy, (share of right ones that are called + share of wrong ones that are not) / 2, where a guess
has 1/2, and by the share called of each quantile: many descriptions are true of the largest activations only. A feature is
described by some contexts and scored on others.

A judge may be a language model behind a function; none is called here. The token set is both a baseline and a test: a feature
is described by the tokens with most of its activation, and nothing is known of contexts.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from interp_jax.errors import InputError

SURE = 0.5  # probability above which a judge says yes


class Examples(NamedTuple):
    """Contexts and a feature's activations on them; 0 is silent."""

    tokens: Int[np.ndarray, "N P"]
    activations: Float[np.ndarray, "N P"]


class Contexts(NamedTuple):
    """What a judge is shown; `marked` is None where nothing is."""

    tokens: Int[np.ndarray, "N P"]
    marked: Bool[np.ndarray, "N P"] | None


Judge = Callable[[Any, Contexts], Float[np.ndarray, " N"]]


class Question(NamedTuple):
    """Contexts, the true answers, and of each the quantile of its largest activation, from 0 for the lowest; -1 if silent."""

    contexts: Contexts
    truth: Bool[np.ndarray, " N"]
    quantile: Int[np.ndarray, " N"]


class Scored(NamedTuple):
    """A judge's answers; shares are NaN where there was nothing to answer.

    Attributes:
      balanced_accuracy: see the module.
      called: of every quantile, the lowest first, the share that was called.
      false_alarms: share of the wrong ones that were called.
    """

    balanced_accuracy: float
    called: Float[np.ndarray, " Q"]
    false_alarms: float


def halves(examples: Examples, rng: np.random.Generator) -> tuple[Examples, Examples]:
    """Contexts to describe by, and others to be scored on."""
    order = rng.permutation(len(examples.tokens))
    middle = len(order) // 2
    return Examples(*(x[order[:middle]] for x in examples)), Examples(*(x[order[middle:]] for x in examples))


def quantiles(examples: Examples, n: int) -> Int[np.ndarray, " N"]:
    """Of every context that of its largest activation among contexts in which the feature fires; -1 where it is silent."""
    largest = examples.activations.max(1)
    fires = np.flatnonzero(largest > 0)
    of = np.full(len(largest), -1)
    of[fires[np.argsort(largest[fires], kind="stable")]] = np.arange(len(fires)) * n // max(len(fires), 1)
    return of


def detection(examples: Examples, n: int, n_quantiles: int, rng: np.random.Generator) -> Question:
    """About n contexts in which the feature fires, as many of every quantile, and as many in which it is silent."""
    chosen, quantile = chosen_contexts(examples, n, n_quantiles, rng)
    return Question(Contexts(examples.tokens[chosen], None), quantile >= 0, quantile)


def fuzzing(examples: Examples, n: int, n_quantiles: int, rng: np.random.Generator) -> Question:
    """The same contexts, with marks."""
    chosen, quantile = chosen_contexts(examples, n, n_quantiles, rng)
    marked = examples.activations[chosen] > 0
    numbers = marked[quantile >= 0].sum(1)
    for row in np.flatnonzero(quantile < 0):
        marked[row, rng.choice(marked.shape[1], rng.choice(numbers), replace=False)] = True
    return Question(Contexts(examples.tokens[chosen], marked), quantile >= 0, quantile)


def chosen_contexts(
    examples: Examples, n: int, n_quantiles: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Which contexts are asked about, in random order, and their quantiles.

    Raises:
      InputError: a feature that fires in fewer contexts than there are quantiles, or is silent in none.
    """
    of = quantiles(examples, n_quantiles)
    n_firing, n_silent = (of >= 0).sum(), (of < 0).sum()
    if n_firing < n_quantiles or not n_silent:
        raise InputError(
            f"descriptions: the feature fires in {n_firing} contexts and is silent in {n_silent}; at least {n_quantiles} and"
            " 1 are needed, so give more contexts or fewer quantiles"
        )
    pick = lambda rows, most: rng.choice(rows, min(most, len(rows)), replace=False)
    firing = [pick(np.flatnonzero(of == q), max(n // n_quantiles, 1)) for q in range(n_quantiles)]
    silent = pick(np.flatnonzero(of < 0), sum(map(len, firing)))
    chosen = rng.permutation(np.concatenate([*firing, silent]))
    return chosen, of[chosen]


def score(judge: Judge, description: Any, question: Question) -> Scored:
    """How well a judge answers by a description."""
    said = np.asarray(judge(description, question.contexts)) > SURE
    if said.shape != question.truth.shape:
        raise InputError(
            f"descriptions: the judge gave {list(said.shape)} probabilities for {len(question.truth)} contexts"
        )
    share = lambda of: float(said[of].mean()) if of.any() else np.nan
    called = np.array([share(question.quantile == q) for q in range(question.quantile.max(initial=-1) + 1)])
    hits, false_alarms = share(question.truth), share(~question.truth)
    return Scored((hits + 1 - false_alarms) / 2, called, false_alarms)


def token_set(examples: Examples, mass: float = 0.9) -> frozenset[int]:
    """The fewest tokens on which the feature has at least the share `mass` of its activation."""
    kinds, place = np.unique(examples.tokens, return_inverse=True)
    total = np.bincount(place.ravel(), np.maximum(examples.activations, 0).ravel(), len(kinds))
    order = np.argsort(-total, kind="stable")
    upto = np.cumsum(total[order]) / max(total.sum(), np.finfo(np.float64).tiny)
    return frozenset(kinds[order[: np.searchsorted(upto, mass - 1e-12) + 1]].tolist()) if total.any() else frozenset()


def token_set_judge(description: Collection[int], contexts: Contexts) -> Float[np.ndarray, " N"]:
    """1 where one of the tokens is there; of marked contexts the share of marked tokens that are among them."""
    there = np.isin(contexts.tokens, list(description))
    if contexts.marked is None:
        return there.any(1).astype(np.float64)
    return (there & contexts.marked).sum(1) / np.maximum(contexts.marked.sum(1), 1)
