"""What each measure says of a dictionary that is written down, beside what it should say: arrays `found` and `truth`.

Those of `PURE` are members of one program; those of `ON_HOST` match, draw questions and ask judges, one after another.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from interp_jax import randomness
from interp_jax.data import planted_dictionaries as planted
from interp_jax.data.planted_dictionaries import Planted
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.measures import (
    descriptions,
    interchange,
    perturbation,
    sparse_probing,
    splitting,
    stability,
)
from interp_jax.dictionaries.measures.meta import Meta, trained
from interp_jax.dictionaries.measures.recovery import cosines
from interp_jax.experiments.known_answers.question import Told
from interp_jax.train.optimizer import Optimizer

EXAMPLES = 1_000  # to fit on, and as many to score on
NOISE = 0.05
LETTERS, TOKENS, ABSORBED, PIECES = 3, 40, 8, 2
PARTS, MOST_PARTS, WIDTH = 16, 3, 24
META = Meta(
    steps=600,
    batch_size=128,
    dictionary=Dictionary(kind="batch_topk", d_in=WIDTH, n_features=WIDTH, most=2, k=2, dead_after=5_000),
    optimizer=Optimizer(learning_rate=1e-2, decay="cosine"),
)


def told(*pairs: tuple[Any, Any]) -> Told:
    """Of pairs of what was found and its truth, a number or one for each."""
    both = [jnp.broadcast_arrays(jnp.ravel(found), jnp.asarray(truth, jnp.float32)) for found, truth in pairs]
    return Told(*(jnp.concatenate(side) for side in zip(*both, strict=True)))


def draws(key: Key[Array, ""], draw: Callable[[Key[Array, "2"]], Any], n: int = 2) -> list[Any]:
    """Several draws of examples of the same directions."""
    common, *each = jax.random.split(key, n + 1)
    return [draw(jnp.stack([common, one])) for one in each]


def labelled(data: Planted) -> sparse_probing.Labelled:
    """Examples with concepts."""
    return sparse_probing.Labelled(data.x, data.f, data.labels)


def of_sparse_probing(key: Key[Array, ""]) -> Told:
    """Concepts in halves: one feature is right where it fires or nothing is there, two always; shuffled labels are a guess."""
    train, test = map(labelled, draws(key, lambda keys: planted.concepts(keys, EXAMPLES, 4, PIECES, 6, NOISE)))
    got = sparse_probing.sparse_probing(key, train, test, jnp.array([1, 2, 4]), most=4)
    first = ((test.f != 0).T[got.features[:, 0]] == test.there).mean(1)
    accuracy, guess = got.sparse.accuracy, got.shuffled.accuracy.mean()
    return told((accuracy[:, 0], first), (accuracy[:, 1:], 1.0), (got.dense.accuracy, 1.0), (guess, 0.5))


def of_splitting(key: Key[Array, ""]) -> Told:
    """Letters with two features each, of which a fifth of the tokens are absorbed: features, and the rate, letter by letter."""
    law = lambda keys: planted.letters(keys, 2 * EXAMPLES, LETTERS, TOKENS, ABSORBED, PIECES, NOISE)
    both = draws(key, law)
    train, test = (splitting.Lettered(one.x, one.f, one.labels) for one in both)
    got = splitting.split(train, test, both[0].W_dec, LETTERS, most=4)
    silent = ~(test.f[:, : LETTERS * PIECES] != 0).any(1)
    own = test.label == jnp.arange(LETTERS)[:, None]
    return told((got.n_main, PIECES), (got.rate, (silent & own).sum(1) / own.sum(1)))


def of_perturbation(key: Key[Array, ""]) -> Told:
    """Concepts with two features each: without both, their own probe guesses, and no other loses anything."""
    train, test = draws(key, lambda keys: planted.concepts(keys, EXAMPLES, 4, PIECES, 6, NOISE))
    got = perturbation.perturb(labelled(train), labelled(test), train.W_dec, jnp.array([PIECES]), most=PIECES)
    return told((got.intended, 0.5), (got.unintended, 0.0))


def of_removal(key: Key[Array, ""]) -> Told:
    """A probe that follows a concept which went with its own: without that one's two features it is as good as the oracle."""
    together, apart = (
        lambda keys, same=same: planted.opposed(keys, EXAMPLES, same, noise=NOISE) for same in (True, False)
    )
    common, *each = jax.random.split(key, 4)
    data = [draw(jnp.stack([common, one])) for draw, one in zip((together, apart, apart), each, strict=True)]
    got = perturbation.remove(*map(labelled, data), data[0].W_dec, jnp.array([2]), most=2)
    return told((got.score, 1.0), (got.biased, 0.5))


def of_interchange(key: Key[Array, ""]) -> Told:
    """Features of values move one attribute; features of combinations move all, whichever is asked for."""
    pairs = []
    for entangled, truth in ((False, (1.0, 1.0)), (True, (1.0, 0.0))):
        both = draws(key, lambda keys, entangled=entangled: planted.attributes(keys, EXAMPLES, 2, 3, entangled, NOISE))
        base, source = (interchange.Valued(one.x, one.f, one.labels) for one, _ in both)
        W_dec, directions = both[0][0].W_dec, both[0][1]
        chosen = interchange.by_variance(base, W_dec, 3, 3, most=3)
        masks = jnp.ones_like(chosen, shape=(2, len(W_dec))) if entangled else chosen
        got = interchange.interchange(
            lambda x, own=directions: planted.attribute_reader(own, x), base, source, W_dec, masks
        )
        pairs += [(got.cause, truth[0]), (got.isolation, truth[1])]
    return told(*pairs)


def of_meta(key: Key[Array, ""]) -> Told:
    """A meta-dictionary of rows that are sums of parts: how near its features are to these, on average."""
    rows, _ = planted.composed(key, 256, PARTS, MOST_PARTS, WIDTH)
    params = trained(META, rows)[0]
    return told((cosines(params["W_dec"], planted.orthonormal(key, PARTS, WIDTH)).max(0).mean(), 1.0))


def of_stability(key: Key[Array, ""]) -> Told:
    """Two dictionaries with three quarters of their features in common, in any order; and chance, against random rows."""
    n, d, common = 64, 24, 48
    rows = np.array(jax.random.normal(key, (3, n, d)))
    order = np.array(jax.random.permutation(key, n))
    second = np.concatenate([rows[0, :common], rows[1, common:]])[order]
    got = stability.stability(np.stack([rows[0], second]))
    drawn = np.mean([stability.stability(rows[[i, j]]).nearest.mean() for i, j in ((0, 1), (0, 2), (1, 2))])
    return Told(np.array([got.found_again[0], drawn]), np.array([common / n, stability.nearest_by_chance(n, d).mean]))


def of_descriptions(key: Key[Array, ""]) -> Told:
    """A feature that fires on three tokens: told by the set of its tokens, and not by others."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    tokens, own = rng.integers(0, 50, (EXAMPLES, 12)), rng.choice(50, 6, replace=False)
    activations = np.isin(tokens, own[:3]) * rng.uniform(0.5, 2, tokens.shape)
    first, second = descriptions.halves(descriptions.Examples(tokens, activations), rng)
    found = []
    for description in (descriptions.token_set(first), frozenset(own[3:].tolist())):
        for ask in (descriptions.detection, descriptions.fuzzing):
            question = ask(second, 200, 5, rng)
            found.append(descriptions.score(descriptions.token_set_judge, description, question).balanced_accuracy)
    return Told(np.array(found), np.array([1.0, 1.0, 0.5, 0.5]))


PURE: dict[str, Callable[[Key[Array, ""]], Told]] = {
    "sparse probing": of_sparse_probing,
    "splitting and absorption": of_splitting,
    "probe perturbation": of_perturbation,
    "removal of spurious correlations": of_removal,
    "interchange": of_interchange,
    "meta-dictionary": of_meta,
}
ON_HOST: dict[str, Callable[[Key[Array, ""]], Told]] = {
    "stability": of_stability,
    "descriptions": of_descriptions,
}


def key_of(seed: Any, measure: str) -> Key[Array, ""]:
    """The key of a run."""
    return randomness.key(seed, f"measures/{measure}")
