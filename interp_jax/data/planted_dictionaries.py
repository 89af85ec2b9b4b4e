"""Examples together with what a dictionary says of them, all written down: what measures of dictionaries are calibrated on.

    x = f W_dec + noise          features f, rows W_dec and labels are drawn; nothing is trained

    concepts     each there or not; a feature for each, or several that share its examples among them
    opposed      two concepts whose presence and absence both have a feature; together always, or independent
    letters      tokens with a first letter; a feature for each token and each letter, which some tokens' features absorb
    attributes   of values; a feature for each value, or one for each combination of values, which cannot be told apart
    composed     rows that are sums of a few parts

Directions are orthonormal, so that nothing but what is planted interferes. Draws are functions of their key.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Planted(NamedTuple):
    """Examples: activations, features, the decoder's rows, and labels, which every function explains."""

    x: Float[Array, "N D"]
    f: Float[Array, "N F"]
    W_dec: Float[Array, "F D"]
    labels: Array


def orthonormal(key: Key[Array, ""], n: int, d: int) -> Float[Array, "n D"]:
    """Random directions, n of them, at most d: each less its part along those before it, twice (Gram and Schmidt)."""

    def step(i: Array, rows: Array) -> Array:
        before = jnp.where(jnp.arange(n)[:, None] < i, rows, 0.0)
        without = lambda row: row - (before @ row) @ before
        row = without(without(rows[i]))
        return rows.at[i].set(row / jnp.linalg.norm(row))

    with jax.default_matmul_precision("highest"):
        return jax.lax.fori_loop(0, n, step, jax.random.normal(key, (n, d)) / jnp.sqrt(1.0 * d))


def spoken(
    key: Key[Array, ""], f: Float[Array, "N F"], W_dec: Float[Array, "F D"], noise: float
) -> Float[Array, "N D"]:
    """What features say, with normal noise in every dimension."""
    said = jnp.matmul(f, W_dec, precision="highest")
    return said + noise * jax.random.normal(key, said.shape)


def concepts(
    keys: Key[Array, "2"], n: int, n_concepts: int, pieces: int = 1, others: int = 0, noise: float = 0.0
) -> Planted:
    """Concepts that are there in half of the examples each; labels [C N] are Boolean.

    Args:
      keys: of the directions, which may be common to several draws, and of the examples.
      n: examples.
      n_concepts: C.
      pieces: features of each, of which one fires where the concept is there; concept c has the features from c · pieces on.
      others: features that have nothing to do with a concept, and fire in half of the examples.
      noise: standard deviation in every dimension.
    """
    d, (there, which, more, error) = n_concepts + others, jax.random.split(keys[1], 4)
    directions = orthonormal(keys[0], d, d)
    W_dec = jnp.concatenate([jnp.repeat(directions[:n_concepts], pieces, 0), directions[n_concepts:]])
    labels = jax.random.bernoulli(there, shape=(n_concepts, n))
    piece = jax.random.randint(which, (n_concepts, n), 0, pieces)
    own = labels[:, None] & (piece[:, None] == jnp.arange(pieces)[:, None])
    free = jax.random.bernoulli(more, shape=(others, n))
    f = jnp.concatenate([own.reshape(-1, n), free]).T.astype(jnp.float32)
    return Planted(spoken(error, f, W_dec, noise), f, W_dec, labels)


def opposed(keys: Key[Array, "2"], n: int, together: bool, strength: float = 2.0, noise: float = 0.0) -> Planted:
    """Two concepts, each a direction that is there with + or -; labels [2 N] are Boolean, of the target and of the other.

    Args:
      keys: of the directions, and of the examples.
      n: examples.
      together: whether the other is there exactly where the target is, or independently.
      strength: how far its direction goes, that of the target being 1.
      noise: standard deviation in every dimension.
    """
    target, other, error = jax.random.split(keys[1], 3)
    first = jax.random.bernoulli(target, shape=(n,))
    labels = jnp.stack([first, first if together else jax.random.bernoulli(other, shape=(n,))])
    directions = orthonormal(keys[0], 2, 4) * jnp.array([[1.0], [strength]])
    W_dec = jnp.concatenate([directions, -directions])
    f = jnp.concatenate([labels, ~labels]).T.astype(jnp.float32)
    return Planted(spoken(error, f, W_dec, noise), f, W_dec, labels)


def letters(
    keys: Key[Array, "2"], n: int, n_letters: int, tokens: int, absorbed: int, pieces: int = 1, noise: float = 0.0
) -> Planted:
    """Tokens, each a direction of its own and one of its letter; labels [N] are letters.

    Feature c · pieces + j is a letter's, and fires for every `pieces`-th of its tokens; those of tokens follow. The first
    `absorbed` tokens of each letter say the letter themselves, and the letter's own features are silent for them.

    Args:
      keys: of the directions, and of the examples.
      n: examples.
      n_letters: C.
      tokens: of each letter.
      absorbed: how many of these.
      pieces: features of each letter.
      noise: standard deviation in every dimension.
    """
    which, error = jax.random.split(keys[1])
    n_tokens = n_letters * tokens
    directions = orthonormal(keys[0], n_letters + n_tokens, n_letters + n_tokens)
    of_letter, of_token = directions[:n_letters], directions[n_letters:]
    letter, place = jnp.arange(n_tokens) // tokens, jnp.arange(n_tokens) % tokens
    takes = place < absorbed
    rows = jnp.where(takes[:, None], (of_token + of_letter[letter]) / jnp.sqrt(2.0), of_token)
    W_dec = jnp.concatenate([jnp.repeat(of_letter, pieces, 0), rows])
    own = (letter * pieces + place % pieces)[:, None] == jnp.arange(n_letters * pieces)
    of_tokens = jnp.concatenate([own & ~takes[:, None], jnp.diag(jnp.where(takes, jnp.sqrt(2.0), 1.0))], axis=1)
    token = jax.random.randint(which, (n,), 0, n_tokens)
    f = of_tokens[token].astype(jnp.float32)
    return Planted(spoken(error, f, W_dec, noise), f, W_dec, letter[token])


def attributes(
    keys: Key[Array, "2"], n: int, n_attributes: int, n_values: int, entangled: bool = False, noise: float = 0.0
) -> tuple[Planted, Float[Array, "A V D"]]:
    """Attributes with independent values, and the direction of each value; labels [A N] are values.

    Args:
      keys: of the directions, and of the examples.
      n: examples.
      n_attributes: A.
      n_values: V, of each.
      entangled: whether there is one feature for each combination of values, in place of one for each value.
      noise: standard deviation in every dimension.
    """
    which, error = jax.random.split(keys[1])
    F = n_attributes * n_values
    directions = orthonormal(keys[0], F, F).reshape(n_attributes, n_values, F)
    values = jax.random.randint(which, (n_attributes, n), 0, n_values)
    if entangled:
        combined = jnp.indices((n_values,) * n_attributes).reshape(n_attributes, -1)
        W_dec = jnp.stack([own[value] for own, value in zip(directions, combined, strict=True)]).sum(0)
        f = (values[:, :, None] == combined[:, None]).all(0).astype(jnp.float32)
    else:
        W_dec = directions.reshape(F, F)
        f = jax.nn.one_hot(values.T, n_values).reshape(n, F)
    return Planted(spoken(error, f, W_dec, noise), f, W_dec, values), directions


def composed(
    key: Key[Array, ""], n: int, n_parts: int, most: int, d: int
) -> tuple[Float[Array, "n D"], Bool[Array, "n P"]]:
    """Rows of length 1 that are sums of one to `most` parts, drawn at random; which parts they are of.

    The parts are `orthonormal(key, n_parts, d)`. Were all rows of equally many, what all parts have in common could as well be
    a bias, and other directions would explain the rows as well as the parts do.
    """
    number, order = jax.random.split(jax.random.fold_in(key, 1))
    ranks = jnp.argsort(jax.random.uniform(order, (n, n_parts)), axis=1)
    of = ranks < jax.random.randint(number, (n, 1), 1, most + 1)
    return of @ orthonormal(key, n_parts, d) / jnp.sqrt(of.sum(1, keepdims=True)), of


def attribute_reader(directions: Float[Array, "A V D"], x: Float[Array, "N D"]) -> Int[Array, "A N"]:
    """The value of each attribute whose direction is there most."""
    return jnp.einsum("avd,nd->anv", directions, x, precision="highest").argmax(-1)
