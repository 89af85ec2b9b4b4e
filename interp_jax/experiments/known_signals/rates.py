"""How often an interval holds the truth, and how often something is called that is not there: outcomes of many draws at once.

    intervals    two normal classes; whether the 95% interval of accuracy holds that of all examples that could be drawn
    no signal    labels are a coin's; called where the 95% interval of accuracy less that of shuffled labels leaves 0 out, or
                 where a permutation test by 19 orders says p ≤ 5%
    documents    the same of documents, each with a coin and an offset of activations of its own: orders are of documents
    no more      two readings of labels that say equally much; called where the paired test says that the first says more

with half of the examples held out, or by five folds, where the truth is the mean of the five fits'. Draws are sites of
`everywhere`: one program fits all of them, with their controls.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from interp_jax.data import planted_signals as planted
from interp_jax.probes import logistic
from interp_jax.probes.controls import TYPES, UNTRAINED
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.paired import paired_p
from interp_jax.probes.permutation import LEAST_ORDERS, permutation_p
from interp_jax.probes.result import Probed
from interp_jax.probes.splits import Splits, cross_validation, held_out

DRAWS, EXAMPLES, WIDTH, LENGTH = 250, 240, 8, 8  # tokens of a document are LENGTH
DOCUMENT = np.arange(EXAMPLES) // LENGTH
LEVEL = 0.05
HYPERS = logistic.Hypers(1.0)
ABSENT = (TYPES, UNTRAINED)  # controls of tokens and models, of which there are none here


def splits_of(folds: int, seeds: int = 1) -> Splits:
    """Half of the examples held out, or folds."""
    return held_out(np.arange(EXAMPLES) % 2 == 0) if folds == 1 else cross_validation(EXAMPLES, folds, seeds=seeds)


def probed(x: Float[Array, "R B D"], y: Float[Array, "R B"], splits: Splits) -> Probed:
    """Of all draws."""
    examples = Examples(x, np.asarray(y)[:, None])
    return everywhere(logistic.PROBE, examples, splits, HYPERS, axes={"draw": range(len(x))}, batch=50, without=ABSENT)


def held(folds: int, keys: Key[Array, "2"]) -> Bool[np.ndarray, " R"]:
    """Whether each draw's interval holds the truth."""
    splits = splits_of(folds)
    drawn, truths = lines(jax.random.split(keys[1], DRAWS), keys[0], jnp.asarray(seen(splits)))
    found, truths = probed(drawn.x, drawn.y, splits).interval("accuracy"), np.asarray(truths)
    return (found.low.ravel() <= truths) & (truths <= found.high.ravel())


def seen(splits: Splits) -> Float[np.ndarray, "F B"]:
    """The weights of the fits whose scores are counted."""
    (fold,) = splits.fold
    own = np.zeros(1, int) if splits.n_folds == 1 else np.arange(splits.n_folds)
    return np.float32((fold == 0)[None] if splits.n_folds == 1 else fold != own[:, None])


@jax.jit
def lines(
    keys: Key[Array, " R"], common: Key[Array, ""], seen: Float[Array, "F B"]
) -> tuple[planted.Line, Float[Array, " R"]]:
    """Examples of every draw, and the mean accuracy of what is fitted to the examples that are seen."""

    def one(key: Key[Array, ""]) -> tuple[planted.Line, Array]:
        drawn = planted.line(jnp.stack([common, key]), EXAMPLES, WIDTH, separation=1.5)
        fits = jax.vmap(lambda w: logistic.fit(key, drawn.x, drawn.y, w, HYPERS))(seen)
        return drawn, planted.rate_of(drawn, fits.weights, fits.bias).mean()

    return jax.lax.map(one, keys, batch_size=50)


def coins(keys: Key[Array, "2"]) -> planted.Planted:
    """Examples of every draw, of which nothing can be told."""
    draw = lambda key: planted.absent(jnp.stack([keys[0], key]), EXAMPLES, WIDTH)
    return jax.vmap(draw)(jax.random.split(keys[1], DRAWS))


def called_by_interval(folds: int, keys: Key[Array, "2"]) -> Bool[np.ndarray, " R"]:
    """Whether each draw is called, where nothing is to be found."""
    drawn = coins(keys)
    found = probed(drawn.x, drawn.y, splits_of(folds)).difference("accuracy")
    return ((found.low > 0) | (found.high < 0)).ravel()


def called_by_orders(keys: Key[Array, "2"]) -> Bool[np.ndarray, " R"]:
    """The same, by five folds and a permutation test."""
    drawn = coins(keys)
    return (permutation_p(probed(drawn.x, drawn.y, splits_of(5, LEAST_ORDERS)), "accuracy") <= LEVEL).ravel()


def documents(seed: int) -> tuple[Float[np.ndarray, "R B D"], Float[np.ndarray, "R B"]]:
    """Activations and labels that have nothing to do with each other, but each with its own document."""
    rng = np.random.default_rng(seed)
    own = lambda x: x[:, DOCUMENT]
    x = own(rng.normal(size=(DRAWS, EXAMPLES // LENGTH, WIDTH))) + rng.normal(size=(DRAWS, EXAMPLES, WIDTH))
    y = rng.random((DRAWS, EXAMPLES)) < own(rng.beta(1, 1, (DRAWS, EXAMPLES // LENGTH)))
    return np.float32(x), np.float32(y)


def called_of_documents(together: bool, keys: Key[Array, "2"]) -> Bool[np.ndarray, " R"]:
    """Whether each draw is called, where labels of documents are shuffled together, or token by token."""
    x, y = documents(seed_of(keys))
    splits = cross_validation(EXAMPLES, 5, groups=DOCUMENT, seeds=LEAST_ORDERS)
    examples = Examples(x, y[:, None], groups=DOCUMENT if together else None)
    options = {"axes": {"draw": range(DRAWS)}, "batch": 50, "without": ABSENT}
    found = everywhere(logistic.PROBE, examples, splits, HYPERS, **options)
    return (permutation_p(found, "accuracy") <= LEVEL).ravel()


def called_above_another(keys: Key[Array, "2"]) -> Bool[np.ndarray, " R"]:
    """Whether the first of two readings is called the better one, where both have as much of the labels."""
    x, y = documents(seed_of(keys))
    other = documents(seed_of(keys) + 1)[0]
    x = np.stack([x, other], 1) + np.eye(WIDTH, dtype=np.float32)[0] * (2 * y - 1)[:, None, :, None]
    splits = cross_validation(EXAMPLES, 5, groups=DOCUMENT, seeds=2)
    options = {"axes": {"draw": range(DRAWS), "reading": range(2)}, "batch": 50, "without": ABSENT}
    found = everywhere(logistic.PROBE, Examples(x, y[:, None, None]), splits, HYPERS, **options)
    right = found.each("accuracy")[:, :, :, 0, 0].reshape(DRAWS, 2, 2, -1, LENGTH).mean(-1)  # [R 2 N G]
    return paired_p((right[:, 0] - right[:, 1]).swapaxes(0, 1), splits.fold[:, ::LENGTH]) <= LEVEL


def seed_of(keys: Key[Array, "2"]) -> int:
    """Of NumPy's draws."""
    return int(jax.random.randint(keys[0], (), 0, 2**30))


RATES: dict[str, Callable[[Key[Array, "2"]], Bool[np.ndarray, " R"]]] = {
    "intervals, held out": partial(held, 1),
    "intervals, five folds": partial(held, 5),
    "no signal, held out": partial(called_by_interval, 1),
    "no signal, five folds, 19 orders": called_by_orders,
    "no signal, five folds, intervals": partial(called_by_interval, 5),
    "no signal, documents, 19 orders": partial(called_of_documents, True),
    "no signal, documents, 19 orders of tokens": partial(called_of_documents, False),
    "no more than another, paired by folds": called_above_another,
}
